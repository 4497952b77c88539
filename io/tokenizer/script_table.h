// Generated table: the script of each character as the pre-tokenizer UnicodeScripts sees it
// (tools/make_script_table.py).
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde {

struct ScriptRun {
  char32_t first;       // this run ends where the next begins
  std::uint8_t script;  // 0: goes with every other
};
extern const ScriptRun kScriptRuns[];
extern const std::size_t kScriptRunsCount;

}  // namespace sonde
