// A program that has nothing to do with Procession, and loads a library that uses it.
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments) {
    void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    void (*call)(void) = library ? (void (*)(void))dlsym(library, "procession_in_a_library") : NULL;
    if (!call) return fprintf(stderr, "%s\n", dlerror()), 1;
    call();
    return 0;
}
