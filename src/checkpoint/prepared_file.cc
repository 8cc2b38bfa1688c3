#include "checkpoint/prepared_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/device_memory.h"
#include "checkpoint/output_file.h"
#include "checkpoint/quote.h"
#include "megamoe/error.h"
#include "moe/backend.h"

namespace megamoe {
namespace {

constexpr std::size_t kMaxSourceBytes = 4096;
constexpr std::size_t kCopyBytes = std::size_t{64} << 20;  // of a device's section at a time

const Backend* find_backend(std::string_view name) {
  for (const Backend* backend : backends())
    if (backend->name() == name) return backend;
  return nullptr;
}

void write_section(OutputFile& file, std::uint64_t offset, const Section& section, std::vector<std::byte>& chunk) {
  if (section.memory == MemoryKind::kHost) return file.write_at(offset, section.bytes);
  chunk.resize(std::min(kCopyBytes, std::max(chunk.size(), section.bytes.size())));
  for (std::span<const std::byte> rest = section.bytes; !rest.empty();) {
    const std::size_t bytes = std::min(rest.size(), chunk.size());
    device_download(chunk.data(), rest.data(), bytes);
    file.write_at(offset, {chunk.data(), bytes});
    offset += bytes;
    rest = rest.subspan(bytes);
  }
}

// A mapped file's sections, which stay mapped for as long as somebody holds the owner.
class FileSections : public SectionSource {
 public:
  FileSections(std::shared_ptr<const MappedFile> file, const PreparedHeader& header)
      : file_(std::move(file)), header_(header) {}

  std::span<const std::byte> section(std::string_view name, std::size_t bytes) const override {
    const auto found = std::find_if(header_.sections.begin(), header_.sections.end(),
                                    [&](const PreparedSection& section) { return section.name == name; });
    if (found == header_.sections.end())
      throw Error(Code::kBadFile, file_->path(), ": section ", quote(name), " is missing");
    if (found->bytes != bytes)
      throw Error(Code::kBadFile, file_->path(), ": section ", quote(name), ": found ", found->bytes,
                  " bytes, this problem has ", bytes);
    return file_->bytes().subspan(static_cast<std::size_t>(found->offset), bytes);
  }

  std::shared_ptr<const void> owner() const override { return file_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  const PreparedHeader& header_;
};

Problem problem_of(const MappedFile& file, const PreparedHeader& header) {
  try {
    Problem problem = parse_problem(header.problem);
    validate(problem);
    return problem;
  } catch (const Error& error) {
    throw Error(Code::kBadFile, file.path(), ": header: problem: ", error.what());
  }
}

// The file's backend, on this machine.
const Backend& backend_of(const MappedFile& file, const PreparedHeader& header, const Problem& problem,
                          const LoadPreparedOptions& options) {
  if (!means_backend(options.backend, header.backend))
    throw Error(Code::kInvalidArgument, file.path(), ": asked for backend '", options.backend,
                "', it is prepared for '", header.backend, "'");
  const Backend* backend = find_backend(header.backend);
  if (backend == nullptr)
    throw Error(Code::kUnsupported, file.path(), ": is prepared for backend ", quote(header.backend),
                ", which this version does not have");
  const std::string refusal = backend->refusal(problem);
  const std::string reason = refusal.empty() ? backend->absence() : refusal;
  if (!reason.empty())
    throw Error(Code::kUnsupported, file.path(), ": is prepared for backend ", header.backend, ": ", reason);
  const PreparedForm* form = backend->prepared_form();
  if (form == nullptr)
    throw Error(Code::kUnsupported, file.path(), ": backend ", header.backend, " keeps no prepared form");
  if (header.layout != static_cast<std::uint64_t>(form->version()))
    throw Error(Code::kUnsupported, file.path(), ": has layout ", header.layout, " of backend ", header.backend,
                ", accepted: ", form->version(), "; prepare the weights again");
  return *backend;
}

}  // namespace

void save_prepared(const PreparedWeights& weights, const std::string& path, const SavePreparedOptions& options,
                   FileOps& ops) {
  const std::filesystem::path whole(path);
  const std::string name = whole.filename().string();
  const std::string parent = whole.has_parent_path() ? whole.parent_path().string() : ".";
  if (name.empty() || name == "." || name == "..")
    throw Error(Code::kInvalidArgument, "prepared file: asked '", path, "', accepted: the name of a file");
  if (options.source.size() > kMaxSourceBytes)
    throw Error(Code::kInvalidArgument, "prepared file: asked a source of ", options.source.size(),
                " bytes, accepted: at most ", kMaxSourceBytes);
  const Backend* backend = find_backend(weights.backend());
  const PreparedForm* form = backend == nullptr ? nullptr : backend->prepared_form();
  if (form == nullptr)
    throw Error(Code::kUnsupported, "prepared file: backend ", weights.backend(),
                " keeps no prepared form of its own, accepted: weights of cpu and cuda");

  const std::vector<Section> sections = form->sections(weights);
  PreparedHeader header{.backend = std::string(weights.backend()),
                        .layout = static_cast<std::uint64_t>(form->version()),
                        .problem = weights.problem().to_string(),
                        .source = options.source};
  for (const Section& section : sections)
    header.sections.push_back({.name = section.name, .bytes = section.bytes.size()});
  const std::string prefix = layout_prepared(header);

  const UniqueFd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) throw Error(Code::kBadFile, parent, ": ", errno_text(errno));
  const WriteTarget target{&ops, directory.get(), parent};
  OutputFile file(target, name);
  file.allocate(header.file_bytes);
  file.write_at(0, std::as_bytes(std::span(prefix)));
  std::vector<std::byte> chunk;
  for (std::size_t i = 0; i < sections.size(); ++i) write_section(file, header.sections[i].offset, sections[i], chunk);
  file.sync();
  file.publish(options.replace);
}

void save_prepared(const PreparedWeights& weights, const std::string& path, const SavePreparedOptions& options) {
  save_prepared(weights, path, options, system_file_ops());
}

std::shared_ptr<const PreparedWeights> load_prepared(const std::string& path, const LoadPreparedOptions& options) {
  const auto file = std::make_shared<const MappedFile>(MappedFile::open(path));
  const PreparedHeader header = read_prepared_header(*file);
  const Problem problem = problem_of(*file, header);
  const Backend& backend = backend_of(*file, header, problem, options);
  if (options.problem.has_value() && *options.problem != problem)
    throw Error(Code::kInvalidArgument, path, ": asked for ", options.problem->to_string(), ", it holds ",
                header.problem);
  if (!options.source.empty() && options.source != header.source)
    throw Error(Code::kInvalidArgument, path, ": asked for weights made of ", quote(options.source),
                ", it holds those of ", quote(header.source));
  std::shared_ptr<const PreparedWeights> weights = backend.prepared_form()->load(problem, FileSections(file, header));
  file->require_unchanged();
  return weights;
}

}  // namespace megamoe
