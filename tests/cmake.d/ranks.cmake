# Several ranks: run by mpiexec, skipped where MPI is absent.
add_executable(collectives ranks/collectives.cpp)
target_link_libraries(collectives PRIVATE sonde_distributed sonde_warnings)
add_test(NAME collectives_test COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/collectives_test.py
         $<TARGET_FILE:collectives>)
add_script_test(ranks_extract_test)
set_tests_properties(collectives_test PROPERTIES SKIP_RETURN_CODE 77 LABELS script)
add_script_test(ranks_probe_test)
if(SONDE_BENCHMARKS)
  add_executable(bench_collectives bench/bench_collectives.cpp)
  target_link_libraries(bench_collectives PRIVATE sonde_distributed sonde_warnings)
endif()
add_script_test(slurm_test ${PROJECT_SOURCE_DIR})
