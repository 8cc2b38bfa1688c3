// One safetensors file, opened, checked whole and mapped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/safetensors_header.h"
#include "megamoe/tensor.h"

namespace megamoe {

class SafetensorsFile {
 public:
  // Throws kBadFile: "<file>: reason, found, accepted". Reads only the header; tensor data is paged in when touched.
  static SafetensorsFile open(const std::string& path) { return SafetensorsFile(MappedFile::open(path)); }
  explicit SafetensorsFile(MappedFile file);

  const std::string& path() const noexcept { return file_.path(); }
  const MappedFile& file() const noexcept { return file_; }
  const std::vector<TensorInfo>& tensors() const noexcept { return header_.tensors; }  // in order of their data
  const std::vector<std::pair<std::string, std::string>>& metadata() const noexcept { return header_.metadata; }
  const std::vector<std::string>& notes() const noexcept { return header_.notes; }
  std::uint64_t data_begin() const noexcept { return data_begin_; }  // byte of the file where the data start

  // nullptr when the file has no such tensor.
  const TensorInfo* find_info(std::string_view name) const noexcept;
  // Data point into the mapping and may be unaligned; valid while this object lives.
  ConstTensorView view(const TensorInfo& tensor) const noexcept;
  // Throws kBadFile for a name the file does not have.
  ConstTensorView tensor(std::string_view name) const;

  void require_unchanged() const { file_.require_unchanged(); }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::uint64_t data_begin_ = 0;
  std::vector<std::uint32_t> by_name_;  // positions in header_.tensors, names ascending
};

}  // namespace megamoe
