#include "kernels/emulation/config.h"

#include <gtest/gtest.h>

#include "runtime/error.h"

namespace sonde::emulation {
namespace {

TEST(Config, ReadsEveryKey) {
  const Config c = parse_config(
      "order=random,seed=7,preempt=0.5,streams=eager,poison=no,protect=yes,strict=no,trace=yes,compute=90,"
      "devices=3,memory=1000000,driver=12020");
  EXPECT_EQ(c.order, Order::random);
  EXPECT_EQ(c.seed, 7u);
  EXPECT_EQ(c.preempt, 0.5);
  EXPECT_EQ(c.streams, Streams::eager);
  EXPECT_TRUE(!c.poison && c.protect && !c.strict && c.trace);
  EXPECT_EQ(c.compute, 90);
  EXPECT_EQ(c.devices, 3);
  EXPECT_EQ(c.memory, 1000000);
  EXPECT_EQ(c.driver, 12020);
  EXPECT_EQ(parse_config("").order, Order::forward);
}

TEST(Config, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"order", "order=sideways", "seed=-1", "seed=1x", "preempt=2", "preempt=nan",
                           "compute=70", "colour=red", "memory=1", "poison="})
    EXPECT_THROW(parse_config(text), UsageError) << text;
}

}  // namespace
}  // namespace sonde::emulation
