#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "files/file_hash.h"
#include "files/metadata.h"
#include "files/tensor_store.h"
#include "model/model.h"

// What a file says of itself: from what it was made, how, and what that cost. GGUF keeps it as one
// JSON text under the last metadata key, "fewbits.certificate", padded with blanks to a length that
// is fixed before the first byte is written; a model folder in a file of its own, fewbits.json. It
// holds no time, host, path or thread count, so equal runs give equal bytes.
//
//   schema            1
//   fewbits           version of the program
//   source            [{name bytes sha256}], the files the model was read from
//   recipe            what was asked for; calibrated methods add instruction_set
//   bits_per_weight   every byte of the file counts
//   relative_error    of all weights: sum of squared errors over sum of squared weights
//   tensors           [{name format relative_error}]
//   data_sha256       of the tensors' bytes, one after another, without padding
//   files             [{name bytes sha256}], of a folder: all but fewbits.json
//   measured          with a text to certify: what eval says of the file against its source
namespace fewbits {

inline constexpr std::string_view kCertificateKey = "fewbits.certificate";
inline constexpr int64_t kCertificateSchema = 1;
inline constexpr const char* kCertificateFile = "fewbits.json";

/// The certificate of a GGUF's metadata; nothing where it has none. Throws Error, beginning with
/// `where`, where it is no JSON object or of a newer schema.
std::optional<Json> read_certificate(const Metadata& metadata, std::string_view where);

/// The same of a model, be it a folder or a GGUF.
std::optional<Json> certificate_of(const Model& model);

/// `certificate` as text of exactly `length` bytes. REQUIRES: it fits.
std::string padded(const Json& certificate, size_t length);

/// SHA-256 of the tensors' bytes in file order, source pages dropped behind; `on_bytes` as in
/// hash_files.
std::string data_sha256(const TensorStore& store, const std::function<void(int64_t)>& on_bytes);

/// What is wrong with a model that carries `certificate`, one line each; nothing: its tensors, or a
/// folder's files, are the bytes that were certified. With `source`, also whether that is what it
/// was made from.
std::vector<std::string> verify_certificate(const Json& certificate, const Model& model,
                                            const std::vector<FileHash>* source,
                                            const std::function<void(int64_t)>& on_bytes);

/// For the "source" of a certificate.
Json to_json(const std::vector<FileHash>& files);

}  // namespace fewbits
