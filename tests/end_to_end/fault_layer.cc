// A disk that fails on command. Loaded before the C library (LD_PRELOAD), it counts what a program
// does to files whose names hold ".fewbits-" (what is written aside, and journals), and strikes at
// the N-th time:
//
//   FEWBITS_FAULT=kill:N    the process dies, half of that write done
//   FEWBITS_FAULT=full:N    that write and all later ones find the disk full
//   FEWBITS_FAULT=rot:N     one bit of that write is another on the disk, and nobody is told
//   FEWBITS_FAULT=power:N   the process dies, and of every such file only what was synced is left
//   FEWBITS_FAULT_FOLDER    where copies of synced files are kept (power)
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Fault {
  Fault() {
    const char* text = std::getenv("FEWBITS_FAULT");
    if (text == nullptr) return;
    kind = text[0];
    at = std::atol(std::strchr(text, ':') + 1);
    if (const char* name = std::getenv("FEWBITS_FAULT_FOLDER")) folder = name;
  }
  char kind = 0;
  long at = 0, seen = 0;
  fs::path folder;
  std::set<std::string> files;
};

Fault& fault() {
  static Fault one;
  return one;
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

/// "" where the file is none of those that count.
std::string watched(int file) {
  char name[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(file);
  const ssize_t length = readlink(link.c_str(), name, sizeof name);
  std::string path(name, length > 0 ? static_cast<size_t>(length) : 0);
  const bool counts = path.find(".fewbits-") != std::string::npos && path[0] == '/' &&
                      path.find("(deleted)") == std::string::npos;
  return counts ? path : "";
}

fs::path copy_of(const std::string& path) {
  return fault().folder / fs::path(path).filename();
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

void lose_power() {
  for (const std::string& path : fault().files) {
    std::error_code none;
    if (!fs::exists(path, none)) continue;
    if (fs::exists(copy_of(path), none)) {
      fs::copy_file(copy_of(path), path, fs::copy_options::overwrite_existing, none);
    } else {
      truncate(path.c_str(), 0);
    }
  }
  die();
}

/// Counts; true where a write shall fail.
bool strikes(const std::string& path, bool writes) {
  Fault& now = fault();
  if (now.kind == 0 || path.empty()) return false;
  now.files.insert(path);
  ++now.seen;
  if (now.kind == 'f') return writes && now.seen >= now.at;
  if (now.seen != now.at) return false;
  if (now.kind == 'p') lose_power();
  return true;
}

ssize_t write_at(int file, const void* bytes, size_t size, off_t offset) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return call(file, bytes, size, offset);
}

ssize_t write_next(int file, const void* bytes, size_t size) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t)>("write");
  return call(file, bytes, size);
}

bool fails(int file) {
  if (!strikes(watched(file), true)) return false;
  return fault().kind == 'f';
}

/// After strikes() let it pass: whether this is the write to die in.
bool last_write(int file) {
  return fault().kind == 'k' && fault().seen == fault().at && !watched(file).empty();
}

std::vector<char> rotten(const void* bytes, size_t size) {
  std::vector<char> copy(static_cast<const char*>(bytes), static_cast<const char*>(bytes) + size);
  copy[size / 2] ^= 1;
  return copy;
}

/// Whether this is the write to be written wrong.
bool rots(int file, size_t size) {
  return fault().kind == 'r' && size > 0 && fault().seen == fault().at && !watched(file).empty();
}

int synced(int file, int result) {
  const std::string path = watched(file);
  if (fault().kind != 'p' || path.empty() || result != 0) return result;
  std::error_code none;
  fs::copy_file(path, copy_of(path), fs::copy_options::overwrite_existing, none);
  return result;
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* bytes, size_t size) {
  if (fails(file)) return errno = ENOSPC, -1;
  if (rots(file, size)) return write_next(file, rotten(bytes, size).data(), size);
  if (!last_write(file)) return write_next(file, bytes, size);
  write_next(file, bytes, size / 2);
  die();
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  if (fails(file)) return errno = ENOSPC, -1;
  if (rots(file, size)) return write_at(file, rotten(bytes, size).data(), size, offset);
  if (!last_write(file)) return write_at(file, bytes, size, offset);
  write_at(file, bytes, size / 2, offset);
  die();
}

int fsync(int file) {
  static const auto call = real<int (*)(int)>("fsync");
  if (strikes(watched(file), false) && fault().kind == 'k') die();
  return synced(file, call(file));
}

int fdatasync(int file) {
  static const auto call = real<int (*)(int)>("fdatasync");
  if (strikes(watched(file), false) && fault().kind == 'k') die();
  return synced(file, call(file));
}

int ftruncate(int file, off_t size) noexcept {
  static const auto call = real<int (*)(int, off_t)>("ftruncate");
  if (strikes(watched(file), false) && fault().kind == 'k') die();
  return call(file, size);
}

int rename(const char* from, const char* to) noexcept {
  static const auto call = real<int (*)(const char*, const char*)>("rename");
  const bool counts = std::strstr(from, ".fewbits-") != nullptr;
  if (counts && strikes(from, false) && fault().kind == 'k') die();
  return call(from, to);
}

int unlink(const char* path) noexcept {
  static const auto call = real<int (*)(const char*)>("unlink");
  const bool counts = std::strstr(path, ".fewbits-") != nullptr;
  if (counts && strikes(path, false) && fault().kind == 'k') die();
  return call(path);
}

}  // extern "C"
