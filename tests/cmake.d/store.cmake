# Stores read back by readers that are not ours.
add_script_test(store_read_test)
add_script_test(golden_store_test)
if(SONDE_BENCHMARKS)
  add_executable(bench_store ${CMAKE_CURRENT_SOURCE_DIR}/bench/bench_store.cpp)
  target_link_libraries(bench_store PRIVATE sonde_io sonde_warnings)
endif()
