// Is there a text library in this build (TIDEMILL_TEXT)? Without it no Tokenizer and no
// ChatTemplate can be made, and a model serves prompts of token ids.
#pragma once

namespace tidemill {

#ifdef TIDEMILL_NO_TEXT
inline constexpr bool kHasTextLibrary = false;
#else
inline constexpr bool kHasTextLibrary = true;
#endif

}  // namespace tidemill
