# The one Rust library, built by cargo into a folder of its own. TIDEMILL_CARGO_TARGET_DIR may name
# a folder that several build trees share: the crates take minutes the first time.
set(TIDEMILL_CARGO_TARGET_DIR ${CMAKE_BINARY_DIR}/rust CACHE PATH "cargo's target folder")

function(add_rust_library target crate)
  find_program(CARGO cargo REQUIRED)
  set(library ${TIDEMILL_CARGO_TARGET_DIR}/release/lib${crate}.a)
  set(folder ${CMAKE_CURRENT_SOURCE_DIR}/text/rust)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/src/*.rs)
  add_custom_command(OUTPUT ${library}
    COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${TIDEMILL_CARGO_TARGET_DIR}
            ${CARGO} build --release --locked --manifest-path ${folder}/Cargo.toml
    DEPENDS ${sources} ${folder}/Cargo.toml ${folder}/Cargo.lock
    COMMENT "Building the text library with cargo" USES_TERMINAL VERBATIM)
  add_custom_target(${target}_cargo DEPENDS ${library})
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_cargo)
  target_link_libraries(${target} INTERFACE ${library} dl m Threads::Threads)
endfunction()
