// The directory that a conversion writes a model into, safe against kills, full disks and the wrong path.
//
// Promises: the source is never written to. An output of before stays whole until the new one is complete. What is
// there after a kill can be gone on with, and gives the same bytes as a run that was not interrupted.
//
// Files are written one by one (output_file.h); config.json comes last, so a directory without it is not complete.
// A journal tells a later run what is finished. Overwriting builds the new model in a directory beside the old one,
// .<name>.megamoe-new, and swaps the two in one step at the end.
//
// How the source is identified, without reading it twice: at the start by names, sizes and hashes of the headers, which
// is cheap. The content of the tensors that went into a file is hashed when that file is finished, while the pages are
// still cached; and again in a run that resumes, for the files it skips, in place of converting them again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/file_ops.h"
#include "checkpoint/journal.h"
#include "checkpoint/model_files.h"
#include "checkpoint/output_file.h"
#include "megamoe/tensor.h"

namespace megamoe {

enum class ExistingOutput {
  kRefuse,     // only an empty or new directory is accepted
  kResume,     // go on with an interrupted run; with nothing there, start
  kOverwrite,  // replace a model that is there, at the end, in one step
};

class OutputDirectory {
 public:
  // Creates the directory where needed (its parent must exist), locks it, and removes temporary files of killed runs.
  //   options  everything that changes a byte of the output, as text; a resumed run must have the same
  //   tool     name and version of the program, likewise
  // Throws kInvalidArgument when output and source are or contain each other, when the output holds files and
  // `existing` does not allow that, or when it is resumed with another source, options or tool; kBadFile when the
  // system refuses.
  OutputDirectory(const std::string& path, const ModelFiles& source, ExistingOutput existing, std::string options,
                  std::string tool, FileOps& ops = system_file_ops());
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  ~OutputDirectory();

  const WriteTarget& target() const noexcept { return work_; }

  // Throws kBadFile when the file system has less room than `bytes`, of all that is still to be written.
  void require_space(std::uint64_t bytes) const;

  // True when `name` was finished by the run that this one resumes, its bytes still hash to what they did then, and
  // `sources`, the source tensors it is made of in a fixed order, do too. A file that does not hash is removed, to be
  // written again; sources that do not are an Error. The caller writes `name` if and only if this is false.
  bool is_finished(const std::string& name, std::span<const ConstTensorView> sources);
  // Notes `name`, which is already on disk, in the journal. SafetensorsWriter::finish calls it.
  void record(const std::string& name, JournalEntry entry);

  // Small files beside the shards (tokenizer, generation config), copied or written again by every run.
  void copy_file(const MappedFile& from, const std::string& name);
  void write_file(const std::string& name, std::string_view text);

  // The end: `index` (empty for a model of one file), then config.json, then the swap if there is an old model.
  void finish(std::string_view index, std::string_view config);

 private:
  void choose_work_directory(ExistingOutput existing);
  void make_directory(const std::string& name) const;
  void open_work_directory(const std::string& name);
  void require_apart(const ModelFiles& source) const;
  void require_replaceable(const std::vector<std::string>& names) const;
  UniqueFd lock(const WriteTarget& directory) const;
  void remove_leftovers(bool everything);
  void start_or_resume(RunIdentity run, bool resume);
  void swap_with_old();
  void remove_old_model(int directory, const std::string& name);
  void remove_if_there(const WriteTarget& directory, const char* name) const;

  std::string path_;    // as the caller said it
  std::string name_;    // last component
  WriteTarget parent_;  // the directory that path_ is in
  WriteTarget work_;    // where files are written: path_, or its staging neighbour
  UniqueFd parent_fd_;
  UniqueFd work_fd_;
  UniqueFd lock_fd_;
  UniqueFd old_lock_fd_;  // of the model that is to be replaced, if a run was interrupted in it
  bool is_staged_ = false;
  bool may_replace_ = false;  // files of the resumed run
  Journal journal_;
};

// Names, sizes and header hashes of the shards, and the hash of config.json: one line of text.
std::string source_fingerprint(const ModelFiles& source);

}  // namespace megamoe
