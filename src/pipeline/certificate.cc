#include "pipeline/certificate.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/sha256.h"
#include "files/errors.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

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

Json checked(Json certificate, const std::string& place) {
  if (!certificate.is_object()) throw Error(fmt::format("{}: no JSON object", place));
  const int64_t schema = json_integer(certificate, "schema", place);
  if (schema != kCertificateSchema) {
    throw Error(fmt::format("{}: schema {} is unknown; this version reads {}", place, schema,
                            kCertificateSchema));
  }
  return certificate;
}

/// One line for each file of the folder that is not as it was certified.
void compare_files(const Json& certified, const fs::path& folder,
                   const std::function<void(int64_t)>& on_bytes,
                   std::vector<std::string>& problems) {
  for (const Json& wanted : certified) {
    const std::string name = json_string(wanted, "name", kCertificateFile);
    const fs::path file = folder / name;
    std::error_code ignored;
    if (fs::path(name).filename() != name || !fs::is_regular_file(file, ignored)) {
      problems.push_back(fmt::format("{} is not there", quote_name(name)));
    } else if (hash_files({file}, on_bytes).front().sha256 !=
               json_string(wanted, "sha256", kCertificateFile)) {
      problems.push_back(fmt::format("{} is not the file that was certified", quote_name(name)));
    }
  }
}

}  // namespace

std::optional<Json> read_certificate(const Metadata& metadata, std::string_view where) {
  const auto text = metadata.string(kCertificateKey);
  if (!text) return std::nullopt;
  const std::string place = fmt::format("{}: {}", where, kCertificateKey);
  return checked(parse_json(*text, place), place);
}

std::optional<Json> certificate_of(const Model& model) {
  std::error_code ignored;
  if (!fs::is_directory(model.path, ignored)) {
    return read_certificate(model.store.metadata(), model.path.string());
  }
  const fs::path file = model.path / kCertificateFile;
  if (!fs::exists(file, ignored)) return std::nullopt;
  return checked(read_json_file(file), file.string());
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

std::vector<std::string> verify_certificate(const Json& certificate, const Model& model,
                                            const std::vector<FileHash>* source,
                                            const std::function<void(int64_t)>& on_bytes) {
  std::vector<std::string> problems;
  std::error_code ignored;
  if (fs::is_directory(model.path, ignored)) {
    const auto files = certificate.find("files");
    if (files == certificate.end() || !files->is_array() || files->empty()) {
      problems.emplace_back("the certificate names no files");
    } else {
      compare_files(*files, model.path, on_bytes, problems);
    }
  } else if (json_string(certificate, "data_sha256", kCertificateKey) !=
             data_sha256(model.store, on_bytes)) {
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
