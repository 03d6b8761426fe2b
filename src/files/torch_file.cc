#include "files/torch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "base/json.h"
#include "files/errors.h"
#include "files/pickle.h"
#include "files/zip.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "pytorch_model.bin";
constexpr const char* kIndexFile = "pytorch_model.bin.index.json";
constexpr std::string_view kPickle = "/data.pkl";

/// The format of a float storage; null for one of integers, which no weight is.
const Format* format_of(const PickledTensor& tensor, std::string_view where) {
  const std::string& type = tensor.value_type;
  if (type == "FloatStorage") return &format_named("F32");
  if (type == "HalfStorage") return &format_named("F16");
  if (type == "BFloat16Storage") return &format_named("BF16");
  if (type.starts_with("Float8") || type == "DoubleStorage" || type == "UntypedStorage") {
    throw Error(
        fmt::format("{}: tensor {}: {} cannot be read; known: Float, Half and BFloat16Storage",
                    where, quote_name(tensor.name), type));
  }
  return nullptr;
}

using Storages = std::unordered_map<std::string, std::span<const std::byte>>;

TensorView view_of(const PickledTensor& tensor, const Format& format, const Storages& storages,
                   std::string_view where) {
  const auto found = storages.find(tensor.storage);
  if (found == storages.end()) {
    throw Error(fmt::format("{}: tensor {}: storage {} is missing", where, quote_name(tensor.name),
                            quote_name(tensor.storage)));
  }
  const auto bytes = tensor_bytes(format, tensor.shape);
  const auto values = static_cast<int64_t>(found->second.size()) / format.block_bytes;
  if (!bytes || tensor.offset > values || *bytes / format.block_bytes > values - tensor.offset) {
    throw Error(fmt::format("{}: tensor {} lies outside its storage of {} bytes", where,
                            quote_name(tensor.name), found->second.size()));
  }
  return {&format, tensor.shape,
          found->second.subspan(static_cast<size_t>(tensor.offset * format.block_bytes),
                                static_cast<size_t>(*bytes))};
}

struct OpenFiles {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<StoredTensor> tensors;

  void open(const fs::path& path) {
    files.push_back(std::make_unique<MappedFile>(MappedFile::open(path)));
    for (StoredTensor& tensor : parse_torch(files.back()->bytes(), path.string()).tensors) {
      tensor.file = files.back().get();
      tensors.push_back(std::move(tensor));
    }
  }
};

/// The files of an index, each a plain name.
std::set<std::string> shards_of(const fs::path& index) {
  const Json json = read_json_file(index);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object() || map->empty()) {
    throw Error(fmt::format("{}: 'weight_map' must map tensor names to files", index.string()));
  }
  std::set<std::string> names;
  for (const Json& shard : *map) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || fs::path(name).filename() != name || name == "..") {
      throw Error(fmt::format("{}: {} is no file name inside the folder", index.string(),
                              quote_name(name)));
    }
    names.insert(name);
  }
  return names;
}

}  // namespace

ParsedFile parse_torch(std::span<const std::byte> bytes, std::string_view where) {
  if (!looks_like_zip(bytes)) {
    throw Error(fmt::format(
        "{}: is no zip archive; files from before PyTorch 1.6 must be saved again", where));
  }
  const std::vector<ZipMember> members = read_zip(bytes, where);
  const auto pickle = std::ranges::find_if(
      members, [](const ZipMember& member) { return member.name.ends_with(kPickle); });
  if (pickle == members.end()) throw Error(fmt::format("{}: holds no data.pkl", where));
  const std::string prefix = pickle->name.substr(0, pickle->name.size() - kPickle.size());
  Storages storages;
  for (const ZipMember& member : members) {
    const std::string data = prefix + "/data/";
    if (member.name.starts_with(data)) storages[member.name.substr(data.size())] = member.bytes;
    const bool order = member.name == prefix + "/byteorder";
    if (order && member.bytes.size() > 0 && member.bytes[0] != std::byte{'l'}) {
      throw Error(fmt::format("{}: was written on a big-endian machine", where));
    }
  }
  ParsedFile file;
  for (const PickledTensor& tensor : read_pickle(pickle->bytes, where)) {
    const Format* format = format_of(tensor, where);
    if (format == nullptr) continue;
    file.tensors.push_back({tensor.name, view_of(tensor, *format, storages, where)});
  }
  return file;
}

TensorStore open_torch_file(const fs::path& path) {
  OpenFiles open;
  open.open(path);
  return with_place(path.string(), [&] {
    return TensorStore(std::move(open.files), std::move(open.tensors), {});
  });
}

bool has_torch_files(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kSingleFile, ignored) || fs::exists(folder / kIndexFile, ignored);
}

TensorStore open_torch_folder(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kSingleFile, ignored)) return open_torch_file(folder / kSingleFile);
  OpenFiles open;
  for (const std::string& name : shards_of(folder / kIndexFile)) open.open(folder / name);
  return with_place((folder / kIndexFile).string(), [&] {
    return TensorStore(std::move(open.files), std::move(open.tensors), {});
  });
}

}  // namespace fewbits
