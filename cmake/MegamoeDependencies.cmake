# What the library links. The installed package looks for the same things (megamoeConfig.cmake.in).

find_package(Threads REQUIRED)
find_package(TBB REQUIRED)
find_package(simdjson REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
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
