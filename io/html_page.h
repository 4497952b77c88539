// What all our HTML pages share: one file each, nothing from outside, light or dark as the reader has it,
// readable on a phone and on paper.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sonde {

std::string html_head(const std::string& title);  // up to and including <main> and <h1>
std::string html_facts(const std::vector<std::pair<std::string, std::string>>& facts);  // names and values
std::string escape_html(const std::string& text);

}  // namespace sonde
