#include "files/output_file.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>
#include <vector>

#include "files/testing.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

void write_once(const fs::path& path, std::string_view text) {
  OutputFile file(path, static_cast<int64_t>(text.size()));
  file.append(as_bytes(text));
  file.commit();
}

std::string refusal(const fs::path& path, int64_t expected_bytes = 0) {
  return error_of([&] { OutputFile(path, expected_bytes); });
}

/// Runs `act` in a process of its own, which may change limits and users or be killed. Its exit
/// status.
template <class Act>
int in_child(Act act) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(act());
  int status = 0;
  check(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(OutputFile, AppearsWithTheCommit) {
  TestFolder folder;
  {
    OutputFile file(folder / "out", 6);
    file.append(as_bytes("abc"));
    EXPECT_TRUE(folder.names().starts_with(fmt::format(".out.fewbits-{}-", ::getpid())));
    OutputFile moved = std::move(file);
    moved.append(as_bytes("def"));
    EXPECT_EQ(moved.size(), 6);
    moved.commit();
  }
  EXPECT_EQ(folder.names(), "out");
  EXPECT_EQ(read_file(folder / "out"), "abcdef");
}

TEST(OutputFile, AnExceptionLeavesTheOldFile) {
  TestFolder folder;
  write_file(folder / "out", "old");
  EXPECT_THROW(
      {
        OutputFile file(folder / "out", 3);
        file.append(as_bytes("new"));
        throw Interrupted("interrupted");
      },
      Interrupted);
  EXPECT_EQ(folder.names(), "out");
  EXPECT_EQ(read_file(folder / "out"), "old");
  write_once(folder / "out", "new");
  EXPECT_EQ(read_file(folder / "out"), "new");
}

TEST(OutputFile, RelativeAndLinkedAndLongNames) {
  TestFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_once("plain", "1");
  fs::current_path(before);
  EXPECT_EQ(read_file(folder / "plain"), "1");

  fs::create_symlink("plain", folder / "link");
  write_once(folder / "link", "2");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "plain"), "2");

  write_once(folder / std::string(255, 'n'), "3");
  EXPECT_EQ(read_file(folder / std::string(255, 'n')), "3");
}

TEST(OutputFile, LargerThanItsWindows) {
  TestFolder folder;
  std::string text(size_t{20} << 20, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 7);
  write_once(folder / "out", text);
  EXPECT_TRUE(read_file(folder / "out") == text);
}

TEST(OutputFile, RefusesOtherTargets) {
  TestFolder folder;
  fs::create_directory(folder / "dir");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  write_file(folder / "file", "");
  const std::string path = folder.path().string();
  const std::string rest =
      "; only a regular file can be written, since it must appear whole or not at all";
  EXPECT_EQ(refusal(folder / "dir"), path + "/dir: is a folder" + rest);
  EXPECT_EQ(refusal(folder / "pipe"), path + "/pipe: is a pipe" + rest);
  EXPECT_EQ(refusal("/dev/null"), "/dev/null: is a device" + rest);
  EXPECT_EQ(refusal(folder / "none/out"), path + "/none/out: the folder " + path +
                                              "/none cannot be used: No such file or directory");
  EXPECT_EQ(refusal(folder / "file/out"), path + "/file/out: Not a directory");
  EXPECT_EQ(refusal(folder / "new/"), path + "/new/: the name of a file is expected");
  EXPECT_EQ(refusal(""), ": the name of a file is expected");
  EXPECT_NE(refusal("/proc/fewbits-out"), "");
}

TEST(OutputFile, RefusesLackOfSpaceBeforeWork) {
  TestFolder folder;
  const std::string error = refusal(folder / "out", int64_t{1} << 60);
  EXPECT_NE(error.find("/out: 1153 PB would be written, but the disk has "), std::string::npos)
      << error;
  EXPECT_EQ(folder.names(), "");
}

// Root may write everywhere, so this is another user's work.
TEST(OutputFile, RefusesProtectedPlaces) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without rights";
  TestFolder folder;
  write_file(folder / "out", "old");
  fs::permissions(folder / "out", fs::perms::owner_read | fs::perms::others_read);
  fs::permissions(folder.path(), fs::perms::all);
  const auto refused_as_nobody = [&](std::string_view name, std::string_view expected) {
    return in_child([&] {
      if (::setuid(65534) != 0) return 2;
      return refusal(folder / name).find(expected) == std::string::npos ? 1 : 0;
    });
  };
  EXPECT_EQ(refused_as_nobody("new", "any text"), 1);  // nothing to refuse
  EXPECT_EQ(refused_as_nobody("out", "exists and is write-protected"), 0);
  fs::permissions(folder.path(),
                  fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);
  EXPECT_EQ(refused_as_nobody("new", "no file can be made in"), 0);
}

TEST(OutputFile, ALimitOnFileSizes) {
  TestFolder folder;
  write_file(folder / "out", "old");
  const int status = in_child([&] {
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    if (refusal(folder / "out", 1001).find("files are limited to 1.00 KB") == std::string::npos)
      return 3;
    const std::string error = error_of([&] { write_once(folder / "out", ""); });
    if (!error.empty()) return 4;
    const std::string late = error_of([&] {
      OutputFile file(folder / "out", 0);
      file.append(as_bytes(std::string(900, 'x')));
      file.append(as_bytes(std::string(101, 'x')));
    });
    return late.ends_with(
               "/out: File too large after 900 bytes; raise the limit (ulimit -f) or write to "
               "another file system")
               ? 0
               : 5;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(folder.names(), "out");
}

/// A file system of one megabyte, where the rights to mount one are there.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& place) : place_(place) {
    mounted_ = ::mount("tmpfs", place.c_str(), "tmpfs", 0, "size=1m") == 0;
  }
  SmallDisk(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) ::umount(place_.c_str());
  }
  bool mounted() const { return mounted_; }

 private:
  fs::path place_;
  bool mounted_;
};

TEST(OutputFile, AFullDisk) {
  TestFolder folder;
  SmallDisk disk(folder.path());
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  write_file(folder / "out", "old");
  EXPECT_NE(refusal(folder / "out", 2 << 20)
                .find("2.10 MB would be written, but the disk has 1.04 MB free"),
            std::string::npos)
      << refusal(folder / "out", 2 << 20);
  const std::string error = error_of([&] {
    OutputFile file(folder / "out", 0);
    for (int i = 0; i < 20; ++i) file.append(as_bytes(std::string(100'000, 'x')));
  });
  EXPECT_NE(error.find("/out: No space left on device after 10"), std::string::npos) << error;
  EXPECT_NE(error.find("; free space or write elsewhere"), std::string::npos);
  EXPECT_EQ(folder.names(), "out");
  EXPECT_EQ(read_file(folder / "out"), "old");
  write_once(folder / "out", std::string(500'000, 'y'));
}

TEST(OutputFile, ResumedGoesOnWhereTheLastOneStopped) {
  TestFolder folder;
  constexpr auto kResumed = OutputFile::Lifetime::kResumed;
  {
    OutputFile file(folder / "out", 6, kResumed);
    file.append(as_bytes("abcd"));
    file.sync();
    file.keep();
  }
  EXPECT_EQ(folder.names(), ".out.fewbits-partial");
  {
    OutputFile file(folder / "out", 6, kResumed);
    ASSERT_EQ(file.size(), 4);
    file.truncate(3);
    file.append(as_bytes("xyz"));
    file.overwrite(0, as_bytes("A"));
    file.commit();
  }
  EXPECT_EQ(folder.names(), "out");
  EXPECT_EQ(read_file(folder / "out"), "Abcxyz");
  { OutputFile(folder / "out", 6, kResumed).append(as_bytes("new")); }
  EXPECT_EQ(folder.names(), "out");
}

/// Starts a process that replaces `path` over and over, and kills it after `microseconds`.
void kill_a_writer(const fs::path& path, int64_t microseconds) {
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text(300'000, 'n');
    for (;;) write_once(path, text);
  }
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST(OutputFile, KilledAtAnyMoment) {
  TestFolder folder;
  write_file(folder / "out", "old");
  const std::string complete(300'000, 'n');
  for (int64_t i = 0; i < 60; ++i) {
    kill_a_writer(folder / "out", 50 + i * i * 17 % 9001);
    const std::string text = read_file(folder / "out");
    EXPECT_TRUE(text == "old" || text == complete) << text.size();
  }
  write_once(folder / "out", "last");  // the next run cleans up
  EXPECT_EQ(folder.names(), "out");
}

TEST(OutputFile, OnlyAbandonedTemporariesOfTheSameTargetGo) {
  TestFolder folder;
  write_file(folder / ".out.fewbits-1-0000000a.tmp", "of a dead run");
  write_file(folder / ".out2.fewbits-1-0000000a.tmp", "of another target");
  write_file(folder / ".out.fewbits-notes", "somebody's");
  OutputFile alive(folder / "out", 0);
  write_once(folder / "out", "x");
  const std::string names = folder.names();
  EXPECT_EQ(names.find(".out.fewbits-1-"), std::string::npos);
  EXPECT_NE(names.find(fmt::format(".out.fewbits-{}-", ::getpid())), std::string::npos);
  EXPECT_NE(names.find(".out.fewbits-notes .out2.fewbits-1-0000000a.tmp out"), std::string::npos)
      << names;
}

TEST(OutputFile, SameFile) {
  TestFolder folder;
  write_file(folder / "a", "");
  fs::create_symlink("a", folder / "link");
  fs::create_hard_link(folder / "a", folder / "hard");
  EXPECT_TRUE(same_file(folder / "a", folder / "link"));
  EXPECT_TRUE(same_file(folder / "a", folder / "hard"));
  EXPECT_FALSE(same_file(folder / "a", folder / "none"));
  EXPECT_FALSE(same_file(folder / "none", folder / "none"));
}

}  // namespace
}  // namespace fewbits
