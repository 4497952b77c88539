# Of each kernel nvcc's registers and spills, from what the build kept; needs no compiler run but with SONDE_LONG=1.
add_test(NAME nvcc COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/nvcc_test.py ${PROJECT_BINARY_DIR})
set_tests_properties(nvcc PROPERTIES LABELS nvcc SKIP_RETURN_CODE 77)
# What a GPU runs where there is one; skipped tests otherwise.
if(TARGET sonde_devices)
  add_test(NAME kernels_cuda COMMAND test_kernels --gtest_filter=*cuda*)
  add_test(NAME models_cuda COMMAND test_models --gtest_filter=*cuda*)
  add_test(NAME device_test_cuda COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/device_test.py $<TARGET_FILE:sonde> cuda)
  set_tests_properties(kernels_cuda models_cuda device_test_cuda PROPERTIES LABELS cuda SKIP_RETURN_CODE 77)
endif()
# For tools/gpu_evidence.py, which writes docs/gpu-performance.md.
if(SONDE_CUDA_FOUND)
  add_executable(gpu_occupancy ${PROJECT_SOURCE_DIR}/tools/gpu_occupancy.cpp)
  target_include_directories(gpu_occupancy SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  add_test(NAME gpu_evidence COMMAND ${SONDE_PYTHON} ${PROJECT_SOURCE_DIR}/tools/gpu_evidence.py ${PROJECT_BINARY_DIR})
  set_tests_properties(gpu_evidence PROPERTIES LABELS "nvcc;trace" DEPENDS traffic)
endif()
