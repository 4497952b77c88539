# Ranges for profilers, heard by a listener of our own.
if(SONDE_CUDA_FOUND AND EXISTS ${CUDAToolkit_INCLUDE_DIRS}/nvtx3/nvToolsExt.h)
  add_library(nvtx_listener SHARED nvtx/listener.cpp)
  target_include_directories(nvtx_listener SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  add_script_test(nvtx_test $<TARGET_FILE:nvtx_listener>)
else()
  add_script_test(nvtx_test)
endif()
