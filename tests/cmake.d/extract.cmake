# End to end through the binary; scripts exit with 77 where a reference they need is absent.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
function(add_script_test name)
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/${name}.py $<TARGET_FILE:sonde> ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 LABELS script)
endfunction()

add_script_test(kill_test)
add_script_test(extract_test)
