// The number formats, in double precision and by plain search: what each code means and which value is nearest.
//
// The oracle decides whether the library is right, so it includes nothing of src/ or include/megamoe and prefers the
// obvious to the fast. Sources: OCP Microscaling Formats (E2M1), OCP 8-bit Floating Point (E4M3 "fn").
#pragma once

#include <cstdint>

namespace oracle {

// Half an ulp of fp32 relative to the value: |fl(a op b) - a op b| <= kUnit * |a op b|.
inline constexpr double kUnit = 0x1p-24;

double e2m1(unsigned code);  // low 4 bits; 0x8 is -0
double e4m3(unsigned code);  // low 8 bits; NaN for 0x7F and 0xFF
double bf16(std::uint16_t bits);

// The nearest value of the format, ties to the even code. Signs are kept; NaN gives NaN.
double round_e2m1(double value);  // saturates at 6
double round_e4m3(double value);  // saturates at 448
double round_bf16(double value);  // does not saturate: callers stay far below 2^127
double round_int8(double value);  // saturates at 127, symmetrically

}  // namespace oracle
