// A weight- or input-stationary machine: controller, skewing delay lines, array, accumulator memory.
//
// Operands come from memories outside that answer in the same cycle: `load_word` is a row of stationary operands (per
// fold ROWS of them, the one of row ROWS - 1 first), `stream_word` one element for each row, `bias_word` one bias for
// each column. `fold_first` and `fold_final` say whether the fold that streams begins or ends its outputs' sums.
module stationary #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter MOVING_BITS = 8,
    parameter MOVING_SIGNED = 1,
    parameter STILL_BITS = 8,
    parameter STILL_SIGNED = 1,
    parameter PSUM_BITS = 24,
    parameter PSUM_SATURATE = 0,
    parameter BIAS_BITS = 32,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1,
    parameter PLACES = 64,
    parameter BIAS_PER_ELEMENT = 0,
    parameter ADDRESS_BITS = 16
) (
    input wire clk,
    input wire reset,
    input wire run,
    output wire busy,
    input wire [ADDRESS_BITS-1:0] fold_count,
    output wire [ADDRESS_BITS-1:0] fold,
    input wire [ADDRESS_BITS-1:0] fold_length,
    input wire fold_first,
    input wire fold_final,
    input wire [ADDRESS_BITS-1:0] fold_bias,
    output wire [ADDRESS_BITS-1:0] load_address,
    input wire [COLS*LANES*STILL_BITS-1:0] load_word,
    output wire [ADDRESS_BITS-1:0] stream_address,
    input wire [ROWS*LANES*MOVING_BITS-1:0] stream_word,
    output wire [ADDRESS_BITS-1:0] bias_address,
    input wire [COLS*BIAS_BITS-1:0] bias_word,
    output wire [COLS*PSUM_BITS-1:0] bottom,
    output wire [COLS-1:0] bottom_valid,
    output wire [ROWS*COLS-1:0] overflow,
    output wire [COLS*ACC_BITS-1:0] total,
    output wire [COLS-1:0] total_final,
    output wire [COLS-1:0] total_overflow,
    output wire [COLS-1:0] total_bias_overflow
);
    localparam PLACE_BITS = $clog2(PLACES);
    localparam FLAGS = ADDRESS_BITS + PLACE_BITS + 3;

    wire load, load_bank, stream, select, last, collected;
    wire [ROWS-1:0] shift;
    wire [ADDRESS_BITS-1:0] element;
    stationary_control #(.ROWS(ROWS), .BANKS(BANKS), .ADDRESS_BITS(ADDRESS_BITS)) control (
        .clk(clk), .reset(reset), .run(run), .fold_count(fold_count), .fold(fold), .length(fold_length),
        .collected(collected), .load_address(load_address), .load(load), .shift(shift), .load_bank(load_bank),
        .stream_address(stream_address), .stream(stream), .select(select), .element(element), .last(last),
        .busy(busy)
    );

    // Operands and select bits enter skewed; zeros where there is nothing.
    wire [ROWS*LANES*MOVING_BITS-1:0] left;
    wire [ROWS-1:0] select_left;
    wire [COLS*LANES*STILL_BITS-1:0] top;
    skew #(.ITEMS(ROWS), .BITS(LANES*MOVING_BITS)) rows_in (
        .clk(clk), .reset(reset), .in(stream_word & {ROWS*LANES*MOVING_BITS{stream}}), .out(left)
    );
    skew #(.ITEMS(ROWS), .BITS(1)) selects_in (.clk(clk), .reset(reset), .in({ROWS{select}}), .out(select_left));
    skew #(.ITEMS(COLS), .BITS(LANES*STILL_BITS)) columns_in (
        .clk(clk), .reset(reset), .in(load_word & {COLS*LANES*STILL_BITS{load}}), .out(top)
    );

    stationary_array #(
        .ROWS(ROWS), .COLS(COLS), .MOVING_BITS(MOVING_BITS), .MOVING_SIGNED(MOVING_SIGNED), .STILL_BITS(STILL_BITS),
        .STILL_SIGNED(STILL_SIGNED), .PSUM_BITS(PSUM_BITS), .PSUM_SATURATE(PSUM_SATURATE), .LANES(LANES),
        .DEPTH(DEPTH), .BANKS(BANKS)
    ) array (
        .clk(clk), .reset(reset), .left(left), .select(select_left), .shift(shift), .load_bank(load_bank), .top(top),
        .bottom(bottom), .overflow(overflow)
    );

    // What is known of an element goes down beside column 0, and from there right with the sums.
    wire [FLAGS-1:0] flags [0:COLS];
    delay #(.BITS(FLAGS), .CYCLES(ROWS + DEPTH - 1)) down (
        .clk(clk), .reset(reset), .in({fold_bias, element[PLACE_BITS-1:0], fold_final, fold_first, stream}),
        .out(flags[0])
    );
    delay #(.BITS(1), .CYCLES(ROWS + COLS + DEPTH - 3)) ends (
        .clk(clk), .reset(reset), .in(last), .out(collected)
    );

    wire [ADDRESS_BITS-1:0] bias_base = flags[0][FLAGS-1 -: ADDRESS_BITS];
    wire [ADDRESS_BITS-1:0] bias_offset = {{(ADDRESS_BITS-PLACE_BITS){1'b0}}, flags[0][3 +: PLACE_BITS]};
    wire unused = &{1'b0, element}; // beyond the memory's places
    assign bias_address = BIAS_PER_ELEMENT != 0 ? bias_base + bias_offset : bias_base;
    wire [COLS*BIAS_BITS-1:0] bias;
    skew #(.ITEMS(COLS), .BITS(BIAS_BITS)) biases_in (.clk(clk), .reset(reset), .in(bias_word), .out(bias));

    genvar c;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : g_col
            delay #(.BITS(FLAGS)) hop (.clk(clk), .reset(reset), .in(flags[c]), .out(flags[c+1]));
            accumulator #(
                .PSUM_BITS(PSUM_BITS), .BIAS_BITS(BIAS_BITS), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE),
                .PLACES(PLACES)
            ) memory (
                .clk(clk), .valid(flags[c][0]), .first(flags[c][1]), .place(flags[c][3 +: PLACE_BITS]),
                .sum(bottom[c*PSUM_BITS +: PSUM_BITS]), .bias(bias[c*BIAS_BITS +: BIAS_BITS]),
                .total(total[c*ACC_BITS +: ACC_BITS]), .overflow(total_overflow[c]),
                .bias_overflow(total_bias_overflow[c])
            );
            assign bottom_valid[c] = flags[c][0];
            assign total_final[c] = flags[c][0] && flags[c][2];
        end
    endgenerate
endmodule
