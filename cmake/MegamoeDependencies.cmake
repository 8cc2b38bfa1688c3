# What the library links. The installed package looks for the same things (megamoeConfig.cmake.in).

find_package(Threads REQUIRED)
find_package(TBB REQUIRED)
find_package(simdjson REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
# One header, compiled into the library; Debian ships no CMake file for it.
find_path(MEGAMOE_XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
mark_as_advanced(MEGAMOE_XXHASH_INCLUDE_DIR)
find_package(nlohmann_json REQUIRED)  # headers only, and only in .cc files: users of the library do not need it

set(MEGAMOE_LINKED_PACKAGES Threads TBB simdjson OpenSSL)

# The cpu backend is written with Highway. Without it the reference backend serves every problem, slowly.
set(MEGAMOE_WITH_CPU_BACKEND AUTO CACHE STRING "Build the cpu backend: AUTO (when Highway >= 1.0.3 is found), ON or OFF")
set_property(CACHE MEGAMOE_WITH_CPU_BACKEND PROPERTY STRINGS AUTO ON OFF)

set(MEGAMOE_HAVE_CPU_BACKEND OFF)
if(MEGAMOE_WITH_CPU_BACKEND STREQUAL "AUTO")
  find_package(hwy 1.0.3 QUIET)
  if(hwy_FOUND)
    set(MEGAMOE_HAVE_CPU_BACKEND ON)
  else()
    set(MEGAMOE_CPU_BACKEND_ABSENT "this build has no cpu backend: Highway 1.0.3 or newer was not found")
  endif()
elseif(MEGAMOE_WITH_CPU_BACKEND)
  find_package(hwy 1.0.3 REQUIRED)
  set(MEGAMOE_HAVE_CPU_BACKEND ON)
else()
  set(MEGAMOE_CPU_BACKEND_ABSENT "this build has no cpu backend: MEGAMOE_WITH_CPU_BACKEND was OFF")
endif()

if(MEGAMOE_HAVE_CPU_BACKEND)
  list(APPEND MEGAMOE_LINKED_PACKAGES hwy)
  message(STATUS "megamoe: cpu backend built, with Highway ${hwy_VERSION}")
else()
  message(NOTICE "megamoe: ${MEGAMOE_CPU_BACKEND_ABSENT}; the reference backend serves every problem")
endif()

# The cuda backends. nvcc 13 or newer: older ones have not been tried.
set(MEGAMOE_WITH_CUDA AUTO CACHE STRING "Build the cuda backends: AUTO (when nvcc >= 13 is found), ON or OFF")
set_property(CACHE MEGAMOE_WITH_CUDA PROPERTY STRINGS AUTO ON OFF)

set(MEGAMOE_HAVE_CUDA OFF)
if(MEGAMOE_WITH_CUDA STREQUAL "OFF")
  set(MEGAMOE_CUDA_ABSENT "this build has no cuda backends: MEGAMOE_WITH_CUDA was OFF")
else()
  # CUDA's own default target would be built for every kernel; megamoe_cuda_options says what they are built for.
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  # Where the system has no nvcc, scripts/setup.sh cuda puts one here.
  file(GLOB wheel_nvcc "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc")
  if(wheel_nvcc AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER "${wheel_nvcc}" CACHE FILEPATH "CUDA compiler" FORCE)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know nvcc's
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
      set(MEGAMOE_HAVE_CUDA ON)
    else()
      set(MEGAMOE_CUDA_ABSENT "this build has no cuda backends: nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, 13 or newer is needed")
    endif()
  else()
    set(MEGAMOE_CUDA_ABSENT "this build has no cuda backends: nvcc was not found")
  endif()
  if(NOT MEGAMOE_HAVE_CUDA AND MEGAMOE_WITH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "megamoe: ${MEGAMOE_CUDA_ABSENT}; MEGAMOE_WITH_CUDA=ON asks for them")
  endif()
endif()

if(MEGAMOE_HAVE_CUDA)
  find_package(CUDAToolkit 13 REQUIRED)
  list(APPEND MEGAMOE_LINKED_PACKAGES CUDAToolkit)
  message(STATUS "megamoe: cuda backends built, with nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
else()
  message(NOTICE "megamoe: ${MEGAMOE_CUDA_ABSENT}")
endif()
