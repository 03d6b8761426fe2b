#include "files/gguf_split.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "files/testing.h"

namespace fewbits {
namespace {

constexpr int64_t kTensors = 5;
constexpr int64_t kTwoTensors = 128;

/// Five tensors of 64 bytes: 0, 1, 2, .. in each value.
template <class Write>
void write_to(const std::filesystem::path& path, const SplitOptions& options, Write&& write) {
  Metadata metadata;
  metadata.set_string("general.architecture", "llama");
  std::vector<PlannedTensor> planned;
  for (int64_t i = 0; i < kTensors; ++i)
    planned.push_back({fmt::format("t{}", i), &format_named("F32"), {2, 8}});
  SplitGgufWriter writer(path, metadata, planned, options);
  write(writer);
}

void append(SplitGgufWriter& writer, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    const std::vector<float> values(16, static_cast<float>(i));
    writer.append(i, std::as_bytes(std::span(values)));
  }
}

int64_t write_all(const std::filesystem::path& path, const SplitOptions& options) {
  int64_t files = 0;
  write_to(path, options, [&](SplitGgufWriter& writer) {
    if (options.lifetime == OutputFile::Lifetime::kResumed) writer.resume(0);
    append(writer, 0, kTensors);
    writer.verify_rest();
    writer.commit();
    files = writer.files();
  });
  return files;
}

class GgufSplit : public testing::Test {
 protected:
  GgufSplit() {
    write_all(folder_ / "whole.gguf", {});
    count_ = write_all(folder_ / "m.gguf", {.file_bytes = kTwoTensors});
  }
  std::filesystem::path part(int64_t index) const {
    return split_name(folder_ / "m.gguf", index, count_);
  }

  TestFolder folder_;
  int64_t count_ = 0;
};

TEST_F(GgufSplit, AnyPartOpensTheWhole) {
  ASSERT_EQ(count_, 3);  // beside the metadata there is room for one tensor
  EXPECT_EQ(part(0).filename(), fmt::format("m-00001-of-{:05}.gguf", count_));
  for (int64_t i = 0; i < count_; ++i) {
    const TensorStore store = open_gguf(part(i));
    ASSERT_EQ(std::ssize(store.tensors()), kTensors);
    EXPECT_EQ(store.metadata().entries(), open_gguf(folder_ / "whole.gguf").metadata().entries());
    for (int64_t t = 0; t < kTensors; ++t) {
      const StoredTensor& tensor = store.tensors()[static_cast<size_t>(t)];
      EXPECT_EQ(tensor.name, fmt::format("t{}", t));
      float value = -1;
      decode(*tensor.view.format, tensor.view.row(1).data(), 1, &value);
      EXPECT_EQ(value, static_cast<float>(t));
    }
  }
}

TEST_F(GgufSplit, GoesOnBehindAnyTensor) {
  const SplitOptions resumed{.file_bytes = kTwoTensors, .lifetime = OutputFile::Lifetime::kResumed};
  for (size_t stopped = 0; stopped <= kTensors; ++stopped) {
    const auto path = folder_ / "r.gguf";
    write_to(path, resumed, [&](SplitGgufWriter& writer) {
      writer.resume(0);
      append(writer, 0, stopped);
      writer.keep();
    });
    write_to(path, resumed, [&](SplitGgufWriter& writer) {
      ASSERT_TRUE(writer.holds(stopped));
      EXPECT_EQ(writer.holds(kTensors), stopped == kTensors);
      writer.resume(stopped);
      append(writer, stopped, kTensors);
      const SplitGgufWriter::Readable readable(writer);
      EXPECT_EQ(std::ssize(open_gguf(readable.path()).tensors()), kTensors);
      writer.commit();
    });
    for (int64_t i = 0; i < count_; ++i) {
      EXPECT_EQ(read_file(split_name(path, i, count_)), read_file(part(i)));
    }
  }
}

TEST_F(GgufSplit, RefusesMissingRenamedAndMixedParts) {
  const auto error = [&](const std::filesystem::path& path) {
    return error_of([&] { open_gguf(path); });
  };
  const auto other = folder_ / "other.gguf";
  std::filesystem::copy_file(part(0), other);
  EXPECT_EQ(error(other), fmt::format("{}: one of {} files of a split GGUF, which must be called "
                                      "NAME-00001-of-{:05}.gguf and so on, as they were",
                                      other.string(), count_, count_));
  std::filesystem::copy_file(part(0), part(1), std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(error(part(0)).find("says that it is file 1 of"), std::string::npos);
  std::filesystem::remove(part(1));
  EXPECT_TRUE(error(part(0)).starts_with(part(1).string()));
}

}  // namespace
}  // namespace fewbits
