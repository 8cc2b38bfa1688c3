// A small conversion to interrupt: two shards copied tensor by tensor, a tokenizer, the index, config.json.
#pragma once

#include <map>
#include <string>

#include "checkpoint/file_ops.h"
#include "checkpoint/output_directory.h"

namespace megamoe::test {

// Two shards, each with tensors of several types, plus config.json and tokenizer.json. `seed` changes the tensors'
// values.
void write_source_model(const std::string& directory, unsigned char seed = 0);

void run_write_job(const std::string& input, const std::string& output, ExistingOutput existing,
                   FileOps& ops = system_file_ops(), const std::string& options = "copy");

// Everything in a directory: name -> bytes. Directories appear with the bytes "<directory>".
std::map<std::string, std::string> snapshot(const std::string& directory);

}  // namespace megamoe::test
