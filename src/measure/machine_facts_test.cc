#include "measure/machine_facts.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

TEST(MachineFacts, TheProcessorIsTheFirstOfCpuinfo) {
  const ProcessorName name = processor_in(
      "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n"
      "model name\t: AMD EPYC\n\nprocessor\t: 1\nvendor_id\t: Other\n");
  EXPECT_EQ(name.vendor, "AuthenticAMD");
  EXPECT_EQ(name.model, "AMD EPYC");
}

TEST(MachineFacts, WhatCpuinfoDoesNotSayIsUnknown) {
  EXPECT_EQ(processor_in("vendor_id :\nBogoMIPS\n").vendor, "unknown");
  EXPECT_EQ(processor_in("").model, "unknown");
}

}  // namespace
}  // namespace tidemill
