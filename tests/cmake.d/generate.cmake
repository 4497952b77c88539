add_script_test(generate_test)
add_script_test(score_test)
add_script_test(edits_test)
