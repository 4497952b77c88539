// The file and line of an address in code.
#pragma once

#include <string>

namespace sonde::emulation {

std::string source_line(const void* return_address);  // "norm.cu:42"; nullptr: the end of a cp.async

}  // namespace sonde::emulation
