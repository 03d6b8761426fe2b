#include <fmt/format.h>

#include <memory>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "files/errors.h"
#include "files/safetensors.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool lies_inside(const fs::path& file, const fs::path& folder) {
  const fs::path relative = file.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

/// The Hugging Face cache keeps MODEL/snapshots/REVISION/ as links into MODEL/blobs/.
bool lies_in_cache(const fs::path& file, const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" &&
         lies_inside(file, snapshots.parent_path() / "blobs");
}

/// Whoever wrote the index must not make us read other files of this machine.
void refuse_outside(const fs::path& folder, const std::string& name, std::string_view where) {
  const fs::path relative(name);
  bool plain = !name.empty() && relative.is_relative() && name.find('\0') == std::string::npos;
  for (const fs::path& part : relative) plain = plain && part != "..";
  if (!plain)
    throw Error(fmt::format("{}: {} is no file name inside the folder", where, quote_name(name)));

  std::error_code error;
  const fs::path file = fs::canonical(folder / relative, error);
  if (error) return;  // opening it says why
  const fs::path home = fs::canonical(folder, error);
  if (!lies_inside(file, home) && !lies_in_cache(file, home)) {
    throw Error(fmt::format("{}: {} is a link to {}, outside the folder", where, quote_name(name),
                            file.string()));
  }
}

struct OpenFile {
  std::unique_ptr<MappedFile> file;
  std::vector<StoredTensor> tensors;
  std::vector<OtherTensor> others;
};

OpenFile open_file(const fs::path& path) {
  OpenFile open{std::make_unique<MappedFile>(MappedFile::open(path)), {}, {}};
  ParsedFile parsed = parse_safetensors(open.file->bytes(), path.string());
  open.tensors = std::move(parsed.tensors);
  open.others = std::move(parsed.others);
  for (StoredTensor& tensor : open.tensors) tensor.file = open.file.get();
  for (OtherTensor& tensor : open.others) tensor.part.file = open.file.get();
  return open;
}

/// Shards in the order in which the index first names them, and the shard that it promises for each
/// tensor.
struct Index {
  std::vector<std::string> shards;
  std::unordered_map<std::string, size_t> shard_of;
};

Index read_index(const fs::path& path) {
  const Json json = read_json_file(path);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object() || map->empty()) {
    throw Error(fmt::format("{}: 'weight_map' must map tensor names to files", path.string()));
  }
  Index index;
  std::unordered_map<std::string, size_t> numbers;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      throw Error(fmt::format("{}: the file of tensor {} must be a string", path.string(),
                              quote_name(tensor)));
    }
    const auto [number, fresh] = numbers.emplace(shard.get<std::string>(), index.shards.size());
    if (fresh) index.shards.push_back(number->first);
    index.shard_of.emplace(tensor, number->second);
  }
  return index;
}

fs::path checked_shard_path(const fs::path& folder, const std::string& name,
                            const std::string& where) {
  refuse_outside(folder, name, where);
  std::error_code ignored;
  if (!fs::exists(folder / name, ignored)) {
    throw Error(fmt::format("{}: shard {} is missing; download it again", where, quote_name(name)));
  }
  return folder / name;
}

/// Each promised tensor must be where the index says. Tensors that it does not name stay: they do
/// no harm.
void refuse_broken_promises(const Index& index, const TensorStore& store,
                            const std::vector<const MappedFile*>& files, const std::string& where) {
  std::unordered_map<std::string_view, const MappedFile*> others;
  for (const OtherTensor& other : store.others()) others.emplace(other.name, other.part.file);
  for (const auto& [name, shard] : index.shard_of) {
    const StoredTensor* tensor = store.find(name);
    const auto other = others.find(name);
    const MappedFile* file = tensor != nullptr       ? tensor->file
                             : other != others.end() ? other->second
                                                     : nullptr;
    if (file != files[shard]) {
      throw Error(fmt::format("{}: tensor {} should be in {}, but is not", where, quote_name(name),
                              quote_name(index.shards[shard])));
    }
  }
}

TensorStore open_shards(const fs::path& folder) {
  const fs::path index_path = folder / kIndexFile;
  const std::string where = index_path.string();
  const Index index = read_index(index_path);
  std::vector<fs::path> paths;
  for (const std::string& name : index.shards)
    paths.push_back(checked_shard_path(folder, name, where));

  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<const MappedFile*> addresses;
  std::vector<StoredTensor> tensors;
  std::vector<OtherTensor> others;
  for (const fs::path& path : paths) {
    OpenFile open = open_file(path);
    std::move(open.tensors.begin(), open.tensors.end(), std::back_inserter(tensors));
    std::move(open.others.begin(), open.others.end(), std::back_inserter(others));
    addresses.push_back(open.file.get());
    files.push_back(std::move(open.file));
  }
  TensorStore store = with_place(where, [&] {
    return TensorStore(std::move(files), std::move(tensors), {}, std::move(others));
  });
  refuse_broken_promises(index, store, addresses, where);
  return store;
}

TensorStore open_single(const fs::path& path) {
  OpenFile open = open_file(path);
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::move(open.file));
  return TensorStore(std::move(files), std::move(open.tensors), {}, std::move(open.others));
}

TensorStore without_others(TensorStore store, const fs::path& where) {
  if (!store.others().empty()) {
    const OtherTensor& other = store.others().front();
    throw Error(fmt::format("{}: tensor {}: dtype {} cannot be read; known: F32, F16, BF16",
                            where.string(), quote_name(other.name), quote_name(other.dtype)));
  }
  return store;
}

}  // namespace

TensorStore open_quantized_folder(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kSingleFile, ignored)) {
    refuse_outside(folder, kSingleFile, folder.string());
    return open_single(folder / kSingleFile);
  }
  if (fs::exists(folder / kIndexFile, ignored)) return open_shards(folder);
  throw Error(fmt::format("{}: holds neither {} nor {}", folder.string(), kSingleFile, kIndexFile));
}

TensorStore open_safetensors_file(const fs::path& path) {
  return without_others(open_single(path), path);
}

TensorStore open_safetensors_folder(const fs::path& folder) {
  return without_others(open_quantized_folder(folder), folder);
}

}  // namespace fewbits
