// The file and line of an address in code.
#pragma once

#include <string>

namespace sonde::emulation {

std::string source_line(const void* return_address);  // "norm.cu:42"; nullptr: the end of a cp.async

// The name of a kernel without namespaces and parameters: "norm_rows<true, false>".
std::string kernel_name(const void* address);

}  // namespace sonde::emulation
