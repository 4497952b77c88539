#include "runtime/error.h"

namespace sonde {

void fail_check(const char* expression, const std::string& message, const char* file, int line) {
  throw Error(fmt::format("{}:{}: {} does not hold: {}", file, line, expression, message),
              "this is a bug in Sonde; please report it with the command line");
}

}  // namespace sonde
