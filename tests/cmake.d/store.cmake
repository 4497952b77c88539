# Stores read back by readers that are not ours.
add_script_test(store_read_test)
