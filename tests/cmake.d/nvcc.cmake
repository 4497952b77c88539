# Of each kernel nvcc's registers and spills, from what the build kept; needs no compiler run but with SONDE_LONG=1.
add_test(NAME nvcc COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/nvcc_test.py ${PROJECT_BINARY_DIR})
set_tests_properties(nvcc PROPERTIES LABELS nvcc SKIP_RETURN_CODE 77)
# What a GPU runs where there is one; skipped tests otherwise.
if(TARGET sonde_devices)
  add_test(NAME kernels_cuda COMMAND test_kernels --gtest_filter=*cuda*)
  add_test(NAME models_cuda COMMAND test_models --gtest_filter=*cuda*)
  set_tests_properties(kernels_cuda models_cuda PROPERTIES LABELS cuda)
endif()
