cmake_minimum_required(VERSION 3.25)  # for IN_LIST

# Fails when a file of src/NAME includes a folder that NAME may not include.
# cmake -DFOLDER=... -DNAME=... -DALLOWED="a;b" -DSTAMP=... -P check_includes.cmake
file(GLOB_RECURSE files ${FOLDER}/*.h ${FOLDER}/*.cc)
get_filename_component(root ${FOLDER} DIRECTORY)
set(climbs "")
foreach(file ${files})
  file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*\"")
  foreach(line ${lines})
    if(NOT line MATCHES "\"([^\"]+)\"")
      continue()
    endif()
    set(target ${CMAKE_MATCH_1})
    string(REGEX MATCH "^[^/]+" folder ${target})
    file(RELATIVE_PATH shown ${root} ${file})
    if(NOT target MATCHES "/")
      string(APPEND climbs "src/${shown}: #include \"${target}\"\n"
        "Includes are written from src/: name the folder.\n")
    elseif(NOT folder STREQUAL NAME AND NOT folder IN_LIST ALLOWED)
      string(REPLACE ";" " " allowed "${ALLOWED}")
      string(APPEND climbs "src/${shown}: #include \"${target}\"\n"
        "${NAME}/ may include: ${NAME} ${allowed}. "
        "Move the code, or pass the value in from above.\n")
    endif()
  endforeach()
endforeach()
if(climbs)
  message(FATAL_ERROR "\n${climbs}")
endif()
if(STAMP)
  file(TOUCH ${STAMP})
endif()
