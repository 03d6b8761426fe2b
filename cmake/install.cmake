# cmake --install: the program, libfewbits.a of all layers, the public headers and a CMake package, so that a project
# says find_package(fewbits) and links fewbits::fewbits.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(layers GLOBAL PROPERTY fewbits_layers)
set(layer_objects ${layers})
list(TRANSFORM layer_objects REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>")
add_library(fewbits_library STATIC ${layer_objects})
set_target_properties(fewbits_library PROPERTIES OUTPUT_NAME fewbits EXPORT_NAME fewbits LINKER_LANGUAGE CXX)
target_include_directories(fewbits_library INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(fewbits_library INTERFACE cxx_std_20)
target_link_libraries(fewbits_library INTERFACE
  Threads::Threads fmt::fmt PkgConfig::OPENBLAS PkgConfig::PCRE2 PkgConfig::UTF8PROC PkgConfig::CRYPTO PkgConfig::YAML)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fewbits)
install(TARGETS fewbits)
install(TARGETS fewbits_library EXPORT fewbits)
install(EXPORT fewbits FILE fewbitsTargets.cmake NAMESPACE fewbits:: DESTINATION ${package_dir})
install(DIRECTORY include/fewbits DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/fewbits FILES_MATCHING PATTERN "*.yaml")
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})

write_basic_package_version_file(${CMAKE_BINARY_DIR}/fewbitsConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/fewbitsConfig.cmake ${CMAKE_BINARY_DIR}/fewbitsConfigVersion.cmake DESTINATION ${package_dir})
