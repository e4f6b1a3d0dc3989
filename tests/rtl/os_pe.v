// One PE of an output-stationary array.
//
// Multiplies the arriving activation with the arriving weight and passes both on; the sum register that `bank` names, of
// BANKS = 1 or 2 (ping-pong), takes rule(sum + product), at a fold's first product rule(bias + product). The one that
// `drain_bank` names takes from above while `drain` is up.
module os_pe #(
    parameter WEIGHT_BITS = 8,
    parameter WEIGHT_SIGNED = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 1,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1
) (
    input wire clk,
    input wire reset,
    input wire [LANES*ACT_BITS-1:0] activation_in,
    output reg [LANES*ACT_BITS-1:0] activation,
    input wire first_in,
    output reg first,
    input wire bank_in,
    output reg bank,
    input wire [LANES*WEIGHT_BITS-1:0] weight_in,
    output reg [LANES*WEIGHT_BITS-1:0] weight,
    input wire signed [ACC_BITS-1:0] bias,
    input wire bias_out_of_range,
    input wire drain,
    input wire drain_bank,
    input wire signed [ACC_BITS-1:0] sum_in,
    output wire signed [ACC_BITS-1:0] sum_out,
    output wire overflow,
    output wire bias_overflow
);
    localparam PRODUCT_BITS = ACT_BITS + WEIGHT_BITS + 2 + $clog2(LANES);
    localparam EXACT_BITS = (PRODUCT_BITS > ACC_BITS ? PRODUCT_BITS : ACC_BITS) + 1;

    wire signed [PRODUCT_BITS-1:0] multiplied;
    product #(
        .A_BITS(ACT_BITS), .A_SIGNED(ACT_SIGNED), .B_BITS(WEIGHT_BITS), .B_SIGNED(WEIGHT_SIGNED), .LANES(LANES),
        .DEPTH(DEPTH), .OUT_BITS(PRODUCT_BITS)
    ) multiplier (.clk(clk), .reset(reset), .a(activation_in), .b(weight_in), .out(multiplied));
    wire begins, to_bank;
    delay #(.BITS(2), .CYCLES(DEPTH - 1)) beside (
        .clk(clk), .reset(reset), .in({first_in, bank_in}), .out({begins, to_bank})
    );

    wire signed [ACC_BITS-1:0] added, held;
    wire signed [ACC_BITS-1:0] base = begins ? bias : held;
    wire signed [EXACT_BITS-1:0] exact = {{(EXACT_BITS-ACC_BITS){base[ACC_BITS-1]}}, base}
        + {{(EXACT_BITS-PRODUCT_BITS){multiplied[PRODUCT_BITS-1]}}, multiplied};
    obey #(.IN_BITS(EXACT_BITS), .BITS(ACC_BITS), .SATURATE(ACC_SATURATE)) rule (
        .exact(exact), .held(added), .overflow(overflow)
    );
    assign bias_overflow = begins && bias_out_of_range;

    reg signed [ACC_BITS-1:0] sum_0;
    always @(posedge clk)
        if (reset) sum_0 <= {ACC_BITS{1'b0}};
        else if (drain && !drain_bank) sum_0 <= sum_in;
        else if (!to_bank) sum_0 <= added;
    generate
        if (BANKS == 2) begin : g_two
            reg signed [ACC_BITS-1:0] sum_1;
            always @(posedge clk)
                if (reset) sum_1 <= {ACC_BITS{1'b0}};
                else if (drain && drain_bank) sum_1 <= sum_in;
                else if (to_bank) sum_1 <= added;
            assign held = to_bank ? sum_1 : sum_0;
            assign sum_out = drain_bank ? sum_1 : sum_0;
        end else begin : g_one
            assign held = sum_0;
            assign sum_out = sum_0;
        end
    endgenerate

    always @(posedge clk)
        if (reset) begin
            activation <= {LANES*ACT_BITS{1'b0}};
            weight <= {LANES*WEIGHT_BITS{1'b0}};
            first <= 1'b0;
            bank <= 1'b0;
        end else begin
            activation <= activation_in;
            weight <= weight_in;
            first <= first_in;
            bank <= bank_in;
        end
endmodule
