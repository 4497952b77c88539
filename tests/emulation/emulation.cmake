# The emulated GPU three ways: plain, under AddressSanitizer, and with every access checked for races.
set(kernel_flags -fno-strict-aliasing -ftrivial-auto-var-init=pattern -Wno-unknown-pragmas)
add_room_tests(emulation sonde_emulated)
target_compile_options(test_emulation PRIVATE ${kernel_flags})
set_tests_properties(emulation PROPERTIES LABELS emu)

# tests/emulation, and tests/emulation/FOLDER, against another build of the emulation.
function(add_emulated_tests name labels library folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/emulation/*.cpp
       ${CMAKE_CURRENT_SOURCE_DIR}/emulation/${folder}/*.cpp)
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE ${library} GTest::gmock GTest::gtest_main)
  target_compile_options(test_${name} PRIVATE ${kernel_flags})
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS "${labels}")
endfunction()

if(TARGET sonde_emulated_race)
  add_emulated_tests(emulation_asan emu_asan sonde_emulated_asan asan)
  add_emulated_tests(emulation_race "race;trace" sonde_emulated_race race)
endif()

if(NOT TARGET sonde_devices)
  return()
endif()

file(GLOB backend_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/emulation/backend/*.cpp)
if(backend_tests)
  add_executable(test_emulation_backend ${backend_tests})
  target_link_libraries(test_emulation_backend PRIVATE sonde_devices sonde_warnings GTest::gtest_main)
  add_test(NAME emulation_backend COMMAND test_emulation_backend)
  set_tests_properties(emulation_backend PROPERTIES LABELS emu)
endif()

# The op tests of kernels/cuda, whose parameter names the device, in other orders and against the other builds.
function(add_emulated_op_tests name labels program settings filter)
  add_test(NAME ${name} COMMAND ${program} --gtest_filter=${filter})
  set_tests_properties(${name} PROPERTIES LABELS "${labels}"
                       ENVIRONMENT "${SONDE_TEST_ENVIRONMENT};SONDE_EMULATION=${settings}")
endfunction()
function(add_op_tests_against name library)
  add_library(sonde_devices_${name} STATIC EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/kernels/devices.cpp)
  target_link_libraries(sonde_devices_${name} PUBLIC sonde_kernels PRIVATE ${library} sonde_cuda)
  add_executable(test_kernels_${name} $<TARGET_OBJECTS:test_kernels>)
  target_link_libraries(test_kernels_${name} PRIVATE sonde_devices_${name} GTest::gmock GTest::gtest_main)
  target_link_options(test_kernels_${name} PRIVATE ${ARGN})
endfunction()
add_emulated_op_tests(kernels_reverse emu test_kernels order=reverse,streams=random,seed=2,compute=80 *emulated*)
add_emulated_op_tests(kernels_random emu test_kernels order=random,seed=5,streams=random *emulated*)
if(TARGET sonde_emulated_race)
  add_op_tests_against(asan sonde_emulated_asan -fsanitize=address,undefined)
  add_emulated_op_tests(kernels_asan emu_asan test_kernels_asan order=forward *emulated*)
  add_op_tests_against(race sonde_emulated_race)
  # What the hot kernels ask of memory, against limits.
  file(GLOB traffic_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/emulation/traffic/*.cpp)
  add_executable(test_traffic ${traffic_tests})
  target_link_libraries(test_traffic PRIVATE sonde_devices_race sonde_emulated_race GTest::gtest_main)
  add_test(NAME traffic COMMAND test_traffic)
  set_tests_properties(traffic PROPERTIES LABELS trace
                       ENVIRONMENT "SONDE_TRAFFIC=${CMAKE_CURRENT_BINARY_DIR}/traffic.jsonl")
  # A checked access costs some hundred plain ones: the largest of the tests are left out.
  add_emulated_op_tests(kernels_race race test_kernels_race order=random,seed=3,preempt=0.01,streams=eager
                        *emulated*-*Attention.MatchesTheOracle*:*Bits*)
endif()
