# cmake --install, and find_package(megamoe) for those who link it.

install(TARGETS megamoe EXPORT megamoeTargets)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/megamoe" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(TARGET megamoe_cli)
  set_target_properties(megamoe_cli PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS megamoe_cli)
endif()

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/megamoe)
install(EXPORT megamoeTargets NAMESPACE megamoe:: DESTINATION ${config_dir})

# Whoever links the static library links what it links; the shared one has found it already.
set(MEGAMOE_FIND_DEPENDENCIES "")
if(NOT BUILD_SHARED_LIBS)
  foreach(package IN LISTS MEGAMOE_LINKED_PACKAGES)
    string(APPEND MEGAMOE_FIND_DEPENDENCIES "find_dependency(${package})\n")
  endforeach()
endif()

include(CMakePackageConfigHelpers)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/megamoeConfig.cmake.in" "${PROJECT_BINARY_DIR}/megamoeConfig.cmake"
  INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/megamoeConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/megamoeConfig.cmake" "${PROJECT_BINARY_DIR}/megamoeConfigVersion.cmake"
  DESTINATION ${config_dir})
