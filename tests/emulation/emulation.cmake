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
  target_link_libraries(test_${name} PRIVATE ${library} sonde_warnings GTest::gmock GTest::gtest_main)
  target_compile_options(test_${name} PRIVATE ${kernel_flags})
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS "${labels}")
endfunction()

if(TARGET sonde_emulated_race)
  add_emulated_tests(emulation_asan emu_asan sonde_emulated_asan asan)
  add_emulated_tests(emulation_race "race;trace" sonde_emulated_race race)
endif()
