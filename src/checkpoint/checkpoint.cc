#include "megamoe/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/hex.h"
#include "checkpoint/layer.h"
#include "checkpoint/sha256.h"
#include "megamoe/formats/bf16.h"
#include "quant/row_reader.h"

namespace megamoe {

struct Checkpoint::Impl {
  std::shared_ptr<const Model> model;
};

namespace {

// Views into the mapped files; F16 and F32 matrices are converted into the caller's scratch.
class StoredExperts final : public ExpertSource {
 public:
  StoredExperts(std::shared_ptr<const Model> model, StoredLayer layer)
      : model_(std::move(model)), layer_(std::move(layer)) {}

  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override {
    if (index < 0 || index >= static_cast<std::int64_t>(layer_.experts.size()))
      throw Error(Code::kInvalidArgument, "expert: asked ", index, ", accepted: 0 to ", layer_.experts.size() - 1);
    return view(layer_.experts[static_cast<std::size_t>(index)], scratch);
  }
  ExpertView shared_expert(ExpertScratch& scratch) const override {
    if (!layer_.shared) return ExpertSource::shared_expert(scratch);
    return view(*layer_.shared, scratch);
  }
  std::span<const float> shared_gate() const override { return layer_.shared_gate; }

 private:
  static ExpertView view(const StoredExpert& expert, ExpertScratch& scratch) {
    const auto& [gate, up, down] = expert.matrices;
    std::size_t bytes = 0;
    for (const auto& matrix : expert.matrices)
      if (must_convert(*matrix)) bytes += static_cast<std::size_t>(matrix->view.rows * matrix->view.cols) * 2;
    scratch.bytes.resize(std::max(scratch.bytes.size(), bytes));
    std::byte* at = scratch.bytes.data();

    ExpertView result;
    result.gate = canonical(*gate, at, scratch);
    result.up = canonical(*up, at, scratch);
    result.down = canonical(*down, at, scratch);
    result.gate_up_input_scale = std::max(gate->input_scale, up->input_scale);
    result.down_input_scale = down->input_scale;
    return result;
  }

  static bool must_convert(const StoredMatrix& matrix) {
    return matrix.dtype == DType::kF16 || matrix.dtype == DType::kF32;
  }

  static MatrixView canonical(const StoredMatrix& matrix, std::byte*& at, ExpertScratch& scratch) {
    MatrixView view = matrix.view;
    if (!must_convert(matrix)) return view;
    view.data = at;
    scratch.floats.resize(static_cast<std::size_t>(view.cols));
    for (std::int64_t row = 0; row < view.rows; ++row) {
      read_floats(matrix.view.data, matrix.dtype, row * view.cols, view.cols, scratch.floats.data());
      for (const float value : scratch.floats) {
        const std::uint16_t bits = bf16_from_float(value);
        std::memcpy(at, &bits, sizeof bits);
        at += sizeof bits;
      }
    }
    return view;
  }

  std::shared_ptr<const Model> model_;
  StoredLayer layer_;
};

Problem problem_of(const Architecture& a, WeightFormat weights, const StoredLayer& layer) {
  Problem problem;
  problem.hidden = a.hidden;
  problem.inter = a.inter;
  problem.experts = a.experts;
  problem.top_k = a.top_k;
  problem.weights = weights;
  problem.activation = a.activation;
  if (layer.shared)
    problem.shared = {
        .inter = a.shared_inter, .weights = layer.shared->matrices[0]->view.format, .gated = a.shared_gated};
  return problem;
}

void require_one_shared_format(const Model& model, const StoredLayer& layer, Pass& pass) {
  if (!layer.shared) return;
  const StoredMatrix& gate = *layer.shared->matrices[0];
  for (const auto& matrix : layer.shared->matrices)
    if (matrix->view.format != gate.view.format)
      pass.problems.add_unsupported(0, std::string(matrix->weight->name), model.file_of(*matrix->weight), "stored as ",
                                    dtype_name(matrix->dtype), " but ", gate.weight->name, " as ",
                                    dtype_name(gate.dtype), ", accepted: one format for the shared expert");
}

void note_conversion(const Model& model, const StoredLayer& layer, Pass& pass) {
  for (const StoredMatrix* matrix : layer.routed())
    if (matrix->dtype == DType::kF16 || matrix->dtype == DType::kF32)
      return pass.notes.add(0, std::string(matrix->weight->name), model.file_of(*matrix->weight), "stored as ",
                            dtype_name(matrix->dtype), ": rounded to BF16 when it is prepared");
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& dir) {
  Findings problems, notes;
  auto impl = std::make_shared<Impl>();
  impl->model = open_model(dir, problems, notes);
  problems.throw_if_any();
  return Checkpoint(std::move(impl));
}

const std::string& Checkpoint::dir() const noexcept { return impl_->model->files.directory().path(); }
std::string_view Checkpoint::family() const noexcept { return impl_->model->architecture.family->name; }
std::string_view Checkpoint::dialect() const noexcept { return impl_->model->dialect->name; }
std::span<const std::int64_t> Checkpoint::layers() const noexcept { return impl_->model->architecture.moe_layers; }

std::string Checkpoint::identity() const {
  const ModelFiles& files = impl_->model->files;
  Sha256 hash;
  for (std::uint32_t shard = 0; shard < files.shards().size(); ++shard) {
    const MappedFile& file = files.shards()[shard].file();
    const std::string facts = files.shard_name(shard) + " " + std::to_string(file.size()) + " " +
                              std::to_string(file.identity().mtime_ns) + "\n";
    hash.update(std::as_bytes(std::span(facts)));
    hash.update(file.bytes().first(static_cast<std::size_t>(files.shards()[shard].data_begin())));
  }
  return "checkpoint " + to_hex(hash.finish()).substr(0, 32);
}

MoeLayer Checkpoint::layer(std::int64_t index) const {
  const Model& model = *impl_->model;
  const std::span<const std::int64_t> known = layers();
  if (!std::ranges::binary_search(known, index))
    throw Error(Code::kInvalidArgument, "layer: asked ", index, ", accepted: the ", known.size(),
                " layers with experts, ", known.front(), " to ", known.back());
  Pass pass;
  StoredLayer stored = read_layer(model, index, pass);
  pass.problems.throw_if_any();
  const WeightFormat weights = weight_format(model, stored, pass);
  require_one_shared_format(model, stored, pass);
  check_layer_scales(model, stored, pass);
  pass.problems.throw_if_any();
  note_conversion(model, stored, pass);
  note_oddities(model, stored, pass);

  MoeLayer layer;
  layer.index = index;
  layer.problem = problem_of(model.architecture, weights, stored);
  layer.routing = model.architecture.routing;
  layer.router_weight = std::move(stored.router);
  layer.choice_bias = std::move(stored.choice_bias);
  layer.notes = pass.notes.take();
  layer.experts = std::make_shared<StoredExperts>(impl_->model, std::move(stored));
  return layer;
}

}  // namespace megamoe
