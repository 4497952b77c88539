# Several ranks: run by mpiexec, skipped where MPI is absent.
add_executable(collectives ranks/collectives.cpp)
target_link_libraries(collectives PRIVATE sonde_distributed sonde_warnings)
add_test(NAME collectives_test COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/collectives_test.py
         $<TARGET_FILE:collectives>)
# NCCL's calls between emulated GPUs of several processes.
add_executable(device_collectives ranks/device_collectives.cpp)
target_link_libraries(device_collectives PRIVATE sonde_distributed sonde_devices sonde_emulated sonde_warnings)
add_test(NAME device_collectives_test COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/device_collectives_test.py
         $<TARGET_FILE:device_collectives>)
set_tests_properties(device_collectives_test PROPERTIES SKIP_RETURN_CODE 77 LABELS "script;emu")
add_script_test(ranks_extract_test)
set_tests_properties(collectives_test PROPERTIES SKIP_RETURN_CODE 77 LABELS script)
add_script_test(ranks_probe_test)
if(SONDE_BENCHMARKS)
  add_executable(bench_collectives bench/bench_collectives.cpp)
  target_link_libraries(bench_collectives PRIVATE sonde_distributed sonde_devices sonde_warnings)
endif()
add_script_test(slurm_test ${PROJECT_SOURCE_DIR})
add_library(full_disk MODULE ranks/full_disk.cpp)
target_link_libraries(full_disk PRIVATE ${CMAKE_DL_LIBS})
add_script_test(full_disk_test $<TARGET_FILE:full_disk>)
add_script_test(slurm_scripts_test ${PROJECT_SOURCE_DIR})
# Models spread over ranks: the tests of the model room's helpers, under mpiexec.
add_executable(tensor_parallel ranks/tensor_parallel.cpp models/random_decoder.cpp models/decoder_files.cpp)
target_link_libraries(tensor_parallel PRIVATE sonde_models sonde_devices sonde_emulated sonde_warnings GTest::gmock GTest::gtest)
target_compile_definitions(tensor_parallel PRIVATE SONDE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
add_test(NAME tensor_parallel_test COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/tensor_parallel_test.py
         $<TARGET_FILE:tensor_parallel> $<TARGET_FILE:sonde>)
set_tests_properties(tensor_parallel_test PROPERTIES SKIP_RETURN_CODE 77 LABELS script TIMEOUT 3600)
