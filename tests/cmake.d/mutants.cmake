# Bugs planted in kernels/cuda, each of which a test must notice: six, or all with SONDE_LONG=1.
if(TARGET test_kernels_race AND CMAKE_GENERATOR MATCHES Ninja)
  add_test(NAME mutants COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/mutate.py ${PROJECT_BINARY_DIR})
  set_tests_properties(mutants PROPERTIES LABELS emu TIMEOUT 14400)
endif()
