# Subcommands on the emulated GPU beside the CPU.
add_script_test(device_test)
