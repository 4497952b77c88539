// The default model's file, where scripts/get_model.sh puts it; tests skip where it is absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace sonde::test {

inline std::filesystem::path smollm2_file() {
  const auto env = [](const char* name) { return std::string(std::getenv(name) ? std::getenv(name) : ""); };
  if (!env("SONDE_SMOLLM2_GGUF").empty()) return env("SONDE_SMOLLM2_GGUF");
  std::string cache = env("SONDE_CACHE");
  if (cache.empty())
    cache = (env("XDG_CACHE_HOME").empty() ? env("HOME") + "/.cache" : env("XDG_CACHE_HOME")) + "/sonde";
  return std::filesystem::path(cache) / "SmolLM2-135M-Instruct.Q4_1.gguf";
}

// A real model under a sanitizer takes many minutes and shows nothing that the tiny ones do not.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace sonde::test

#define SONDE_REQUIRE_SMOLLM2()                                                                \
  if (::sonde::test::kSanitized) GTEST_SKIP() << "a real model is too slow under a sanitizer"; \
  if (!std::filesystem::exists(::sonde::test::smollm2_file()))                                 \
  GTEST_SKIP() << "no " << ::sonde::test::smollm2_file().string() << ": scripts/get_model.sh brings it"
