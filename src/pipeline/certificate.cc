#include "pipeline/certificate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/sha256.h"

namespace fewbits {
namespace {

constexpr size_t kWindowBytes = size_t{8} << 20;

std::string text_of(const Json& certificate) {
  return certificate.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// One line for each file of the certificate that `found` lacks or has otherwise.
void compare_sources(const Json& certified, const std::vector<FileHash>& found,
                     std::vector<std::string>& problems) {
  for (const Json& wanted : certified) {
    const std::string name = json_string(wanted, "name", kCertificateKey);
    const auto file = std::ranges::find(found, name, &FileHash::name);
    if (file == found.end()) {
      problems.push_back(fmt::format("source: '{}' is not there", name));
    } else if (file->sha256 != json_string(wanted, "sha256", kCertificateKey)) {
      problems.push_back(fmt::format("source: '{}' is another file (its SHA-256 differs)", name));
    }
  }
}

}  // namespace

std::optional<Json> read_certificate(const Metadata& metadata, std::string_view where) {
  const auto text = metadata.string(kCertificateKey);
  if (!text) return std::nullopt;
  const std::string place = fmt::format("{}: {}", where, kCertificateKey);
  Json certificate = parse_json(*text, place);
  if (!certificate.is_object()) throw Error(fmt::format("{}: no JSON object", place));
  const int64_t schema = json_integer(certificate, "schema", place);
  if (schema != kCertificateSchema) {
    throw Error(fmt::format("{}: schema {} is unknown; this version reads {}", place, schema,
                            kCertificateSchema));
  }
  return certificate;
}

std::string padded(const Json& certificate, size_t length) {
  std::string text = text_of(certificate);
  check(text.size() <= length);
  text.resize(length, ' ');
  return text;
}

std::string data_sha256(const TensorStore& store, const std::function<void(int64_t)>& on_bytes) {
  Sha256 hash;
  for (const StoredTensor& tensor : store.tensors()) {
    for (auto rest = tensor.view.bytes; !rest.empty();) {
      const auto window = rest.first(std::min(rest.size(), kWindowBytes));
      rest = rest.subspan(window.size());
      hash.update(window);
      tensor.file->drop(window);
      on_bytes(std::ssize(window));
    }
  }
  return hash.finish();
}

std::vector<std::string> verify_certificate(const Json& certificate, const TensorStore& store,
                                            const std::vector<FileHash>* source,
                                            const std::function<void(int64_t)>& on_bytes) {
  std::vector<std::string> problems;
  if (json_string(certificate, "data_sha256", kCertificateKey) != data_sha256(store, on_bytes)) {
    problems.emplace_back("tensors: their bytes are not those that were certified");
  }
  const auto certified = certificate.find("source");
  if (source != nullptr && certified != certificate.end() && certified->is_array()) {
    compare_sources(*certified, *source, problems);
  }
  return problems;
}

Json to_json(const std::vector<FileHash>& files) {
  Json json = Json::array();
  for (const FileHash& file : files) {
    json.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  return json;
}

}  // namespace fewbits
