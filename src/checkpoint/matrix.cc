#include "checkpoint/matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "megamoe/formats/nvfp4.h"
#include "quant/row_reader.h"

namespace megamoe {
namespace {

const Tensor* find_known(const Model& model, const std::string& name, Pass& pass) {
  const Tensor* tensor = model.find(name);
  if (tensor != nullptr) pass.known.insert(tensor);
  return tensor;
}

template <class... Parts>
void problem(const Model& model, int pitfall, const Tensor& tensor, Pass& pass, const Parts&... parts) {
  pass.problems.add(pitfall, std::string(tensor.name), model.file_of(tensor), parts...);
}

bool has_shape(const Model& model, const Tensor& tensor, std::int64_t rows, std::int64_t cols, Pass& pass) {
  const Shape& shape = tensor.view.shape;
  if (shape == Shape{rows, cols}) return true;
  const bool is_transposed = shape == Shape{cols, rows};
  problem(model, is_transposed ? 9 : 0, tensor, pass, "shape: found ", shape.to_string(),
          is_transposed ? ", which is transposed" : "", ", accepted: [", rows, ", ", cols, "]");
  return false;
}

bool has_dtype(const Model& model, const Tensor& tensor, DType dtype, Pass& pass) {
  if (tensor.view.dtype == dtype) return true;
  problem(model, 0, tensor, pass, "type: found ", dtype_name(tensor.view.dtype), ", accepted: ", dtype_name(dtype));
  return false;
}

bool is_usable_scale(float value) { return std::isnormal(value) && value > 0.0f; }

// The config against the tensors, where they disagree about whether a module is quantised.
void compare_with_config(const Model& model, const std::string& module, const Tensor& weight, bool is_nvfp4,
                         Pass& pass) {
  const ModuleQuant quant = model.quant.of(module);
  switch (quant.kind) {
    case ModuleQuant::Kind::kNone:
      if (is_nvfp4)
        problem(model, 10, weight, pass, "stored as NVFP4, but the config says that ", module, " is not quantised");
      break;
    case ModuleQuant::Kind::kNvfp4:
      if (!is_nvfp4)
        problem(model, 8, weight, pass, "stored as ", dtype_name(weight.view.dtype),
                ", but the config says that it is NVFP4");
      break;
    case ModuleQuant::Kind::kOther:
      pass.problems.add_unsupported(0, std::string(weight.name), model.file_of(weight), "the config says ", quant.other,
                                    ", accepted: NVFP4 or none");
      break;
  }
}

std::optional<StoredMatrix> read_plain(const Model& model, const std::string& module, const Tensor& weight,
                                       std::int64_t rows, std::int64_t cols, Pass& pass) {
  compare_with_config(model, module, weight, false, pass);
  const DType dtype = weight.view.dtype;
  if (!is_float_source(dtype)) {
    pass.problems.add_unsupported(0, std::string(weight.name), model.file_of(weight), "type: found ", dtype_name(dtype),
                                  ", accepted: BF16, F16, F32, or U8 with the tensors of NVFP4");
    return std::nullopt;
  }
  if (!has_shape(model, weight, rows, cols, pass)) return std::nullopt;
  StoredMatrix matrix;
  matrix.module = module;
  matrix.dtype = dtype;
  matrix.weight = &weight;
  matrix.view = {.format = WeightFormat::kBf16,
                 .rows = rows,
                 .cols = cols,
                 .data = static_cast<const std::byte*>(weight.view.data)};
  return matrix;
}

std::optional<StoredMatrix> read_nvfp4(const Model& model, StoredMatrix matrix, std::int64_t rows, std::int64_t cols,
                                       Pass& pass) {
  const std::string& module = matrix.module;
  const Dialect& dialect = *model.dialect;
  bool sound = true;
  const auto require = [&](const Tensor* tensor, std::string_view suffix) {
    if (tensor != nullptr) return true;
    const Tensor* other = matrix.weight ? matrix.weight : matrix.sf ? matrix.sf : matrix.global;
    pass.problems.add(0, module + std::string(suffix), model.file_of(*other), "missing beside ", other->name);
    return sound = false;
  };
  if (require(matrix.weight, dialect.codes)) {
    compare_with_config(model, module, *matrix.weight, true, pass);
    sound &=
        has_dtype(model, *matrix.weight, DType::kU8, pass) && has_shape(model, *matrix.weight, rows, cols / 2, pass);
  }
  if (require(matrix.sf, dialect.sf))
    sound &= has_dtype(model, *matrix.sf, DType::kF8E4M3, pass) && has_shape(model, *matrix.sf, rows, cols / 16, pass);
  float global_scale = 0.0f;
  if (require(matrix.global, dialect.global)) global_scale = read_multiplier(model, *matrix.global, pass);
  if (matrix.input != nullptr) {
    matrix.input_scale = read_multiplier(model, *matrix.input, pass);
    sound &= matrix.input_scale > 0.0f;
  }
  if (!sound || global_scale == 0.0f) return std::nullopt;
  matrix.dtype = DType::kU8;
  matrix.view = {.format = WeightFormat::kNvfp4,
                 .rows = rows,
                 .cols = cols,
                 .data = static_cast<const std::byte*>(matrix.weight->view.data),
                 .sf = static_cast<const std::byte*>(matrix.sf->view.data),
                 .global_scale = global_scale};
  return matrix;
}

// True where the 8 bytes of codes hold a magnitude that is not zero.
bool has_nonzero_code(const std::byte* codes) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, codes, sizeof bits);
  return (bits & 0x7777777777777777ull) != 0;
}

}  // namespace

std::uint64_t StoredMatrix::bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const Tensor* tensor : {weight, sf, global, input})
    if (tensor != nullptr) sum += static_cast<std::uint64_t>(tensor->view.bytes());
  return sum;
}

float read_multiplier(const Model& model, const Tensor& tensor, Pass& pass) {
  if (!has_dtype(model, tensor, DType::kF32, pass)) return 0.0f;
  const Shape& shape = tensor.view.shape;
  if (shape != Shape{} && shape != Shape{1}) {
    problem(model, 13, tensor, pass, "shape: found ", shape.to_string(), ", accepted: [] or [1]");
    return 0.0f;
  }
  float stored = 0.0f;
  std::memcpy(&stored, tensor.view.data, sizeof stored);
  const float multiplier = model.dialect->stores_reciprocals ? 1.0f / stored : stored;
  if (is_usable_scale(stored) && is_usable_scale(multiplier) && is_usable_scale(1.0f / multiplier)) return multiplier;
  problem(model, 4, tensor, pass, "found ", stored,
          ", accepted: a number above 0 that, as its reciprocal, is neither infinite nor denormal");
  return 0.0f;
}

std::optional<StoredMatrix> read_matrix(const Model& model, const std::string& module, std::int64_t rows,
                                        std::int64_t cols, Pass& pass) {
  const Dialect& dialect = *model.dialect;
  const bool may_be_nvfp4 = !dialect.quant_method.empty();
  const Tensor* plain = find_known(model, module + std::string(kPlainWeight), pass);
  StoredMatrix matrix;
  matrix.module = module;
  if (may_be_nvfp4) {
    matrix.weight = find_known(model, module + std::string(dialect.codes), pass);
    matrix.sf = find_known(model, module + std::string(dialect.sf), pass);
    matrix.global = find_known(model, module + std::string(dialect.global), pass);
    matrix.input = find_known(model, module + std::string(dialect.input), pass);
  }
  const bool has_scales = matrix.sf != nullptr || matrix.global != nullptr;
  const bool has_codes = matrix.weight != nullptr && (matrix.weight != plain || plain->view.dtype == DType::kU8);
  if (may_be_nvfp4 && (has_scales || has_codes)) return read_nvfp4(model, std::move(matrix), rows, cols, pass);
  if (plain != nullptr) return read_plain(model, module, *plain, rows, cols, pass);

  const bool wants_codes = model.quant.of(module).kind == ModuleQuant::Kind::kNvfp4;
  pass.problems.add(0, module + std::string(wants_codes ? dialect.codes : kPlainWeight), "", "missing from the model");
  return std::nullopt;
}

void check_scales(const Model& model, const StoredMatrix& matrix, Pass& pass) {
  const std::int64_t blocks = matrix.view.rows * (matrix.view.cols / kNvfp4Block);
  const auto* sf = reinterpret_cast<const std::uint8_t*>(matrix.view.sf);
  std::uint8_t least = 0xFF, most = 0;
  for (std::int64_t i = 0; i < blocks; ++i) {
    least = std::min(least, sf[i]);
    most = std::max(most, sf[i]);
  }
  const auto place = [&](std::int64_t block) {
    const std::int64_t per_row = matrix.view.cols / kNvfp4Block;
    return Shape{block / per_row, block % per_row}.to_string();
  };
  if (least == 0 || most > kE4m3MaxCode) {
    // One finding a kind: the first block of it, and how many there are.
    std::int64_t first[3] = {-1, -1, -1}, count[3] = {0, 0, 0};
    for (std::int64_t i = 0; i < blocks; ++i) {
      int kind = -1;
      if (e4m3_is_nan(sf[i]))
        kind = 0;
      else if ((sf[i] & kE4m3SignBit) != 0)
        kind = 1;
      else if (sf[i] == 0 && has_nonzero_code(matrix.view.data + i * kNvfp4BlockBytes))
        kind = 2;
      if (kind >= 0 && count[kind]++ == 0) first[kind] = i;
    }
    if (count[0] > 0)
      problem(model, 4, *matrix.sf, pass, "NaN at ", place(first[0]), " (", count[0],
              " in all), accepted: finite scales");
    if (count[1] > 0)
      problem(model, 6, *matrix.sf, pass, "negative at ", place(first[1]), " (", count[1],
              " in all), accepted: scales of 0 or more");
    if (count[2] > 0)
      problem(model, 4, *matrix.sf, pass, "zero at ", place(first[2]), " (", count[2],
              " in all) above codes that are not zero");
  }
  if (most > kE4m3MaxCode) return;

  // The largest weight that the scales can mean. Read the wrong way round, a global scale turns a into 2688^2 / a, and
  // no trained weight comes near 2688.
  const float largest = kE2m1Max * e4m3_to_float(most) * matrix.view.global_scale;
  if (largest > kNvfp4Max)
    problem(model, 1, *matrix.global, pass, "weights up to ", largest, ": the ",
            model.dialect->stores_reciprocals ? "multiplier is stored where " : "reciprocal is stored where ",
            model.dialect->name, " has the ", model.dialect->stores_reciprocals ? "reciprocal" : "multiplier");
  if (matrix.view.global_scale == 1.0f && most > 0 && most < 0x08)
    pass.notes.add(5, std::string(matrix.global->name), model.file_of(*matrix.global),
                   "global scale 1 above subnormal block scales only: engines that re-encode block scales lose them");
}

std::vector<float> read_float_tensor(const Model& model, const std::string& name, const Shape& shape, Pass& pass) {
  const Tensor* tensor = find_known(model, name, pass);
  if (tensor == nullptr) {
    pass.problems.add(0, name, "", "missing from the model");
    return {};
  }
  if (!is_float_source(tensor->view.dtype)) {
    problem(model, 0, *tensor, pass, "type: found ", dtype_name(tensor->view.dtype), ", accepted: BF16, F16, F32");
    return {};
  }
  if (tensor->view.shape != shape) {
    const bool is_transposed = shape.rank() == 2 && tensor->view.shape == Shape{shape[1], shape[0]};
    problem(model, is_transposed ? 9 : 0, *tensor, pass, "shape: found ", tensor->view.shape.to_string(),
            ", accepted: ", shape.to_string());
    return {};
  }
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  read_floats(tensor->view.data, tensor->view.dtype, 0, shape.elements(), values.data());
  const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
  if (bad == values.end()) return values;
  problem(model, 0, *tensor, pass, "element ", bad - values.begin(), ": found ", *bad, ", accepted: finite numbers");
  return {};
}

}  // namespace megamoe
