# How every target of this project is compiled.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

include(GNUInstallDirs)

# A compiler cache makes switching between branches and presets cheap; nobody needs to have one.
find_program(MEGAMOE_CCACHE ccache)
mark_as_advanced(MEGAMOE_CCACHE)
if(MEGAMOE_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  # Without this ccache leaves out whatever uses a precompiled header, as the tests do.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros "${MEGAMOE_CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${MEGAMOE_CCACHE}")
endif()

set(MEGAMOE_SANITIZE "" CACHE STRING "Value for -fsanitize=, for example address,undefined")

# Optimisation of what runs for moments, where the time to build counts: tests and the command line (the oracle and the
# library run for minutes). Sanitizers' checks of inlined templates double that time.
if(MEGAMOE_SANITIZE)
  set(MEGAMOE_QUICK_TO_BUILD -O0)
else()
  set(MEGAMOE_QUICK_TO_BUILD -O1)
endif()

# The numeric contract (docs/numerics.md) fixes every rounding: no contraction of a*b+c that the source does not
# write as fma, no fast-math anywhere.
set(MEGAMOE_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers)
function(megamoe_compile_options target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${MEGAMOE_WARNINGS} -ffp-contract=off>)
  # GCC 12 reports "a" + std::string as overlapping copies (GCC bug 105651).
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
  if(MEGAMOE_SANITIZE)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MEGAMOE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer>)
    target_link_options(${target} PRIVATE -fsanitize=${MEGAMOE_SANITIZE})
  endif()
endfunction()

# Device code of `target` is always optimised, and without assertions: ptxas otherwise waits for every wgmma before the
# next. --fmad=false is the device's -ffp-contract=off. sm_90a: wgmma and setmaxnreg are in no other target.
function(megamoe_cuda_options target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
    -O3 -DNDEBUG --fmad=false --expt-relaxed-constexpr --extended-lambda -gencode=arch=compute_90a,code=sm_90a
    -Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers,-ffp-contract=off -Werror=all-warnings>)
endfunction()
