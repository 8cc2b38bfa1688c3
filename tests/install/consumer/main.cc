#include <megamoe/error.h>
#include <megamoe/tensor.h>

#include <iostream>

int main() {
  const megamoe::Shape shape{7168, 2048};
  std::cout << megamoe::dtype_name(megamoe::DType::kBF16) << " " << shape.to_string() << "\n";
  try {
    megamoe::Shape{-1};
  } catch (const megamoe::Error& error) {
    std::cout << error.what() << "\n";
    return error.code() == megamoe::Code::kInvalidArgument ? 0 : 1;
  }
  return 1;
}
