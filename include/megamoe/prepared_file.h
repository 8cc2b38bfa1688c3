// Prepared weights in a file: prepared once, then mapped (cpu) or copied to the device (cuda) in moments.
//
//   save_prepared(*prepare(problem, source), "layer.12.prepared");
//   Plan plan(load_prepared("layer.12.prepared", {.problem = problem}), {.max_tokens = 256});
//
// The file: "megamoe prepared", a format version and the length of the header (u32 each, little-endian), the header as
// JSON (backend, version of its layout, problem, source, and name, offset and size of each section), then the sections,
// each at a multiple of 4096 bytes. It belongs to one backend and one version of its packed layout: where either
// differs, the weights are prepared again from the checkpoint.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "megamoe/moe.h"

namespace megamoe {

struct SavePreparedOptions {
  std::string source;  // what the weights were made of, for example the checkpoint's digest; at most 4096 bytes, UTF-8
  bool replace = false;  // an existing file of that name; without it, such a file is an error
};

// Writes a file that appears complete or not at all. Throws kUnsupported where the backend keeps no form of its own
// (reference), kBadFile where the system refuses.
void save_prepared(const PreparedWeights& weights, const std::string& path, const SavePreparedOptions& options = {});

struct LoadPreparedOptions {
  std::string backend = "auto";    // as PrepareOptions::backend: any other than the file's is refused
  std::optional<Problem> problem;  // where given, the file's must be equal
  std::string source;              // where not empty, the file's must be equal
};

// Weights of the cpu backend lie in the mapped file: it must not change while they are in use. Throws kBadFile for what
// is not such a file or is not whole, kUnsupported for another format, backend or layout than this build and machine
// have, kInvalidArgument where it does not hold what `options` ask for.
std::shared_ptr<const PreparedWeights> load_prepared(const std::string& path, const LoadPreparedOptions& options = {});

}  // namespace megamoe
