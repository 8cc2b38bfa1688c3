#include "megamoe/tensor_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "checkpoint/file_ops.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_layout.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr std::size_t kNamesShown = 8;

std::string names_of(const SafetensorsFile& file) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : file.tensors()) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kNamesShown ? text + ", ..." : text;
}

const ConstTensorView* find_view(std::span<const NamedTensor> tensors, std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &found->view;
}

}  // namespace

HostTensor read_tensor(const std::string& path, const std::string& name) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const TensorInfo* info = file.find_info(name);
  if (info == nullptr) throw Error(Code::kBadFile, path, ": no tensor '", name, "', it has: ", names_of(file));
  const ConstTensorView view = file.view(*info);
  const auto* bytes = static_cast<const std::byte*>(view.data);
  HostTensor tensor{view.dtype, view.shape, {bytes, bytes + view.bytes()}};
  file.require_unchanged();
  return tensor;
}

void write_tensor_file(const std::string& path, std::span<const NamedTensor> tensors) {
  const std::filesystem::path whole(path);
  const std::string name = whole.filename().string();
  const std::string parent = whole.has_parent_path() ? whole.parent_path().string() : ".";
  if (name.empty() || name == "." || name == "..")
    throw Error(Code::kInvalidArgument, "output file: asked '", path, "', accepted: the name of a file");

  std::vector<TensorSpec> specs;
  for (const NamedTensor& tensor : tensors) specs.push_back({tensor.name, tensor.view.dtype, tensor.view.shape});
  const SafetensorsLayout layout = layout_safetensors(std::move(specs), {{"format", "pt"}}, path);

  const UniqueFd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw Error(Code::kBadFile, parent, ": ", errno_text(errno));
  const WriteTarget target{&system_file_ops(), directory.get(), parent};
  OutputFile file(target, name);
  file.allocate(layout.file_bytes());
  file.write_at(0, std::as_bytes(std::span(layout.prefix)));
  for (const TensorInfo& info : layout.tensors) {
    const ConstTensorView* view = find_view(tensors, info.name);
    file.write_at(layout.prefix.size() + info.begin,
                  {static_cast<const std::byte*>(view->data), static_cast<std::size_t>(view->bytes())});
  }
  file.sync();
  file.publish(true);
}

}  // namespace megamoe
