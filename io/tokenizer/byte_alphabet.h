// The alphabet that byte-level BPE files write bytes in: printable Latin-1 stands for itself, the other 68
// bytes for U+0100 to U+0143 in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sonde {

char32_t letter_of_byte(unsigned char byte);
std::optional<unsigned char> byte_of_letter(char32_t letter);

// The bytes that a token of valid UTF-8 stands for; nothing when a character is not of the alphabet.
std::optional<std::string> bytes_of_token(std::string_view token);

}  // namespace sonde
