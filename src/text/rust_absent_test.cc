#ifdef TIDEMILL_NO_TEXT

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(WithoutTheTextLibrary, WhatNeedsItNamesTheOptionOfTheBuild) {
  EXPECT_THAT([] { Tokenizer("{}"); },
              ThrowsMessage<std::runtime_error>(HasSubstr("TIDEMILL_TEXT=ON")));
  EXPECT_THAT([] { ChatTemplate("x", JsonObject{}); },
              ThrowsMessage<std::runtime_error>(HasSubstr("TIDEMILL_TEXT=ON")));
}

}  // namespace
}  // namespace tidemill

#endif
