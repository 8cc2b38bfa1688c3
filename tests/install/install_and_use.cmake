# cmake -D build= -D work= -D consumer= -D generator= -D compiler= -D version= -D cuda_root= -P install_and_use.cmake
# cuda_root: the toolkit of the build, which need not be where CMake looks for one; empty without CUDA

file(REMOVE_RECURSE "${work}")

function(step)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

step(${CMAKE_COMMAND} --install "${build}" --prefix "${work}/prefix")
step(${CMAKE_COMMAND} -S "${consumer}" -B "${work}/build" -G "${generator}" "-DCMAKE_CXX_COMPILER=${compiler}"
  "-DCMAKE_PREFIX_PATH=${work}/prefix" "-DCUDAToolkit_ROOT=${cuda_root}" -DMEGAMOE_VERSION=${version})
step(${CMAKE_COMMAND} --build "${work}/build")
step("${work}/build/consumer")
