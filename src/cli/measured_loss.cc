#include "cli/measured_loss.h"

#include "base/mapped_file.h"
#include "base/text_view.h"
#include "cli/console.h"
#include "evaluate/evaluate.h"
#include "files/file_hash.h"
#include "kernels/kernel_table.h"
#include "pipeline/certificate.h"

namespace fewbits::cli {

Json measure_loss(const Model& source, const std::filesystem::path& file,
                  const std::filesystem::path& text_file, ThreadPool& pool) {
  const Model model = open_model(file);
  const MappedFile text = MappedFile::open(text_file);
  Progress progress("certify");
  Json facts = facts_of(evaluate_text(
      {.model = &model,
       .reference = &source,
       .pool = &pool,
       .progress = [&](int64_t done, int64_t total) { progress.update(done, total); }},
      text_view(text.bytes()), {}));
  facts["text"] = to_json(hash_files({text_file}, [](int64_t) {})).front();
  facts["instruction_set"] = kernels().name;
  return facts;
}

}  // namespace fewbits::cli
