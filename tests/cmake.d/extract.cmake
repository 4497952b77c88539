add_script_test(kill_test)
add_script_test(extract_test)
add_script_test(depth_test)
