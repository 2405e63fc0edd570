# fuzz_targets(LAYER SOURCES): every NAME_fuzz.cc of a layer (base/fuzz_target.h) becomes
#
#   replay_NAME   replays its seeds and what lies in tests/fuzz/NAME; with TIDEMILL_TESTS, the test
#                 fuzz.NAME. Any compiler builds it.
#   fuzz_NAME     the same target under libFuzzer; with TIDEMILL_FUZZ, which needs clang.
if(TIDEMILL_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "TIDEMILL_FUZZ needs clang, this is ${CMAKE_CXX_COMPILER_ID}: "
    "cmake -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_C_COMPILER=clang-19 (package clang-19)")
endif()

# What a target cannot do without: TIDEMILL_TEXT.
set(TIDEMILL_FUZZ_TEXT tokenizer detokenizer chat_template)

function(fuzz_targets layer sources)
  fuzz_mains()
  foreach(source ${sources})
    get_filename_component(name ${source} NAME)
    string(REGEX REPLACE "_fuzz\\.cc$" "" name ${name})
    if(NOT TIDEMILL_TEXT AND name IN_LIST TIDEMILL_FUZZ_TEXT)
      continue()
    endif()
    add_library(fuzz_target_${name} OBJECT ${source})
    target_link_libraries(fuzz_target_${name} PUBLIC tidemill_${layer})
    fuzz_program(replay_${name} fuzz_target_${name} fuzz_main_replay)
    if(TIDEMILL_FUZZ)
      fuzz_program(fuzz_${name} fuzz_target_${name} fuzz_main_libfuzzer)
      target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    else()
      file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
      add_test(NAME fuzz.${name}
        COMMAND replay_${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/${name}
        WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)  # findings are kept there
      set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120)
    endif()
  endforeach()
endfunction()

# Both ways to call a target, and `fuzz`, which builds all of them.
function(fuzz_mains)
  if(TARGET fuzz)
    return()
  endif()
  add_custom_target(fuzz)
  foreach(main replay libfuzzer)
    add_library(fuzz_main_${main} OBJECT EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/fuzz/${main}.cc)
    target_link_libraries(fuzz_main_${main} PUBLIC tidemill_base)
  endforeach()
  if(TIDEMILL_FUZZ OR TIDEMILL_SANITIZE)
    target_compile_definitions(fuzz_main_replay PRIVATE TIDEMILL_FUZZ_SLOW)
  endif()
endfunction()

function(fuzz_program program)
  add_executable(${program})
  target_link_libraries(${program} PRIVATE ${ARGN})
  set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz
    LINKER_LANGUAGE CXX)
  add_dependencies(fuzz ${program})
endfunction()
