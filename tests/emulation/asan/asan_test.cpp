// The build with AddressSanitizer: a kernel that leaves its memory ends the program, and is named.
#include "tests/emulation/device.h"
#include "tests/emulation/planted_bugs.h"

namespace sonde::emulated {
namespace {

using AsanDeathTest = EmulatedDevice;

TEST_F(AsanDeathTest, OutsideOfMemory) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto dies = [](const std::string& name, auto kernel, std::size_t dynamic_bytes, auto... arguments) {
    EXPECT_DEATH(run_kernel(kernel, 1, 256, dynamic_bytes, arguments...), "#0[^\n]*bugs::" + name);
  };
  DeviceArray<int> out(256), in(256);
  const int* from = in.data();
  dies("global_overread", bugs::global_overread, 0, out.data(), from);
  dies("global_overwrite", bugs::global_overwrite, 0, out.data());
  dies("dynamic_overrun", bugs::dynamic_overrun, 1024, out.data());
  dies("static_overrun", bugs::static_overrun, 0, out.data(), 1);
}

TEST_F(AsanDeathTest, FreedMemory) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  DeviceArray<int> out(256);
  int* gone = nullptr;
  ASSERT_EQ(cudaMalloc(&gone, 2048), cudaSuccess);
  ASSERT_EQ(cudaFree(gone), cudaSuccess);
  EXPECT_DEATH(run_kernel(bugs::global_overread, 1, 256, 0, out.data(), static_cast<const int*>(gone)),
               "use-after-poison");
  // and the host may not look at device memory while it holds nothing
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile int*>(gone)), "use-after-poison");
}

}  // namespace
}  // namespace sonde::emulated
