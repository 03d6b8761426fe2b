#include "files/lora.h"

#include <gtest/gtest.h>

#include "files/safetensors.h"
#include "files/safetensors_writer.h"
#include "files/testing.h"

namespace fewbits {
namespace {

void write_tensors(const std::filesystem::path& path,
                   const std::vector<std::pair<SafetensorsEntry, std::vector<float>>>& tensors) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [entry, values] : tensors) entries.push_back(entry);
  SafetensorsWriter writer(path, entries);
  for (const auto& [entry, values] : tensors) writer.append(std::as_bytes(std::span(values)));
  writer.commit();
}

class Lora : public testing::Test {
 protected:
  Lora() {
    write_tensors(folder_ / "model.safetensors",
                  {{{"l.q.weight", "F32", {2, 3}, 24}, {1, 2, 3, 4, 5, 6}}});
    write_adapter("base_model.model.l.q.lora_B.weight");
  }

  /// Rank 4 would be alpha / 4; the tensors have rank 1.
  void write_adapter(const std::string& up) {
    write_tensors(folder_ / "adapter_model.safetensors",
                  {{{"base_model.model.l.q.lora_A.weight", "F32", {1, 3}, 12}, {1, 10, 100}},
                   {{up, "F32", {2, 1}, 8}, {1, -1}}});
  }

  std::vector<float> merged(std::string_view config) {
    write_file(folder_ / "adapter_config.json", config);
    TensorStore store = open_safetensors_folder(folder_.path());
    merge_lora(store, folder_.path());
    const StoredTensor& tensor = *store.find("l.q.weight");
    std::vector<float> values(6);
    std::vector<std::byte> scratch;
    for (int64_t row = 0; row < 2; ++row)
      decode(*tensor.view.format, tensor.row(row, scratch).data(), 3, values.data() + 3 * row);
    return values;
  }
  std::string refusal(std::string_view config) {
    return error_of([&] { merged(config); });
  }

  TestFolder folder_;
};

TEST_F(Lora, AddsTheProduct) {
  EXPECT_EQ(merged(R"({"peft_type":"LORA","lora_alpha":2,"r":1})"),
            (std::vector<float>{3, 22, 203, 2, -15, -194}));
  EXPECT_EQ(merged(R"({"lora_alpha":2,"r":1,"alpha_pattern":{"q":1},"use_rslora":true})"),
            (std::vector<float>{2, 12, 103, 3, -5, -94}));
}

TEST_F(Lora, RefusesOtherAdapters) {
  const std::string config = (folder_ / "adapter_config.json").string();
  EXPECT_EQ(refusal(R"({"peft_type":"IA3","lora_alpha":1})"), config + ": 'IA3' is no LoRA");
  EXPECT_EQ(refusal(R"({"lora_alpha":1,"use_dora":true})"),
            config + ": 'use_dora' is not supported; merge the adapter with PEFT");
  const std::string weights = (folder_ / "adapter_model.safetensors").string();
  write_adapter("base_model.model.l.q.bias");
  EXPECT_EQ(refusal(R"({"lora_alpha":1})"),
            weights +
                ": 2 of 2 tensors are no pairs lora_A and lora_B of linear layers, which is "
                "all that is merged");
  write_tensors(folder_ / "adapter_model.safetensors",
                {{{"l.k.lora_A.weight", "F32", {1, 3}, 12}, {1, 1, 1}},
                 {{"l.k.lora_B.weight", "F32", {2, 1}, 8}, {1, 1}}});
  EXPECT_EQ(refusal(R"({"lora_alpha":1})"),
            weights + ": the model has no tensor 'l.k.weight'; was the adapter made for another?");
}

}  // namespace
}  // namespace fewbits
